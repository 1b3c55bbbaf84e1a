"""The page of one adaptation."""
