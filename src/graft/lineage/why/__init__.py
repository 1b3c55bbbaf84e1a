"""Answers to `graft why`, as plain values."""
