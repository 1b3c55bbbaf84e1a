"""The run that keeps a forgetting budget: pilots, choice of mixture, interpolation back."""
