"""Comparisons of two sightings. Each file one class: __call__(before, after) -> rows, evidence by source name."""
