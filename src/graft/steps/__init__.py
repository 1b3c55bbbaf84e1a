"""Curation. Each file one class: __call__(docs) -> docs, marking what it would drop and deleting nothing."""
