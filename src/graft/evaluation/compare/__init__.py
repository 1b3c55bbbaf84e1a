"""Two models on the same text, token by token."""
