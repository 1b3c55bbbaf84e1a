"""Ranks, slices, memory and numeric faults of this machine."""
