"""The page of answers to suites."""
