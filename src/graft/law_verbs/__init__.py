"""The verbs of `graft law`: words in, answers as plain values, and what the terminal shows of them."""
