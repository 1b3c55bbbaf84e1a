"""Documents and dialogues as text, before any tokenizer."""
