"""What all pages share: frame, style, scripts, words for numbers."""
