"""A model of transformers as we compute it."""
