"""Numbers read off evidence. Each file one class: __call__(evidence) -> Tally with one entry per document."""
