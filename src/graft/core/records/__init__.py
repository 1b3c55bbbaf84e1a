"""What models made of text, as files: evidence, answers, features."""
