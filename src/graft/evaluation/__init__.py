"""Models and text in, recorded evidence and numbers out."""
