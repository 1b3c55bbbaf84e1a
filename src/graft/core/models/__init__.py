"""A model folder as files: architecture, tokenizer, headers of weights. No torch."""
