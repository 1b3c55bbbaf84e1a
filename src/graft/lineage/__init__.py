"""Which run read what, and what made what."""
