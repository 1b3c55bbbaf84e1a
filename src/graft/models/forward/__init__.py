"""Packed rows in, hidden states and scores out, for every kind of model."""
