"""Text that a model writes, as a source of training text."""
