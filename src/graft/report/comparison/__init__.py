"""The page of two models on any text."""
