"""The page of many finished runs."""
