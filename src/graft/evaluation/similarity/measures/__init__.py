"""How alike two texts are. Each file one class: __call__(text, reference) -> one number, of two `Features`."""
