"""Suites of questions: files to items, items to answers."""
