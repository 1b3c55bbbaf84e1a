"""Formulas that say the loss of a run before it is paid for. Each file one class: fit(trials) -> Fitted."""
