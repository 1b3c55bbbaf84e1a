"""Losses of runs that were not made, from a table of runs that were. No torch."""
