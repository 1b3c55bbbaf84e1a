"""One file per command: words in, a job called, lines printed."""
