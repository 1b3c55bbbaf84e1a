"""Files to documents: one format per file, each with `read(file, field) -> pieces`; nothing is repaired in silence."""
