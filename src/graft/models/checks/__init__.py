"""Is what we compute what the model computes? Asked before work."""
