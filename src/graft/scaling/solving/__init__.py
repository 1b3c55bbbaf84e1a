"""Answers from fitted laws: hold-outs, how far beyond the data, the best mixture within a budget, the next run."""
