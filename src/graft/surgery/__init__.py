"""A model made of models or tokenizers without a gradient step."""
