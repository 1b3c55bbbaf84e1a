"""Fitting formulas to measured losses: a table of trials and a form in, constants with intervals out. No torch."""
