"""The page of domains one after another."""
