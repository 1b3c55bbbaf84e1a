"""The page of how alike texts are."""
