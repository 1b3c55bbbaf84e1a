"""Losses of chosen text without gradients."""
