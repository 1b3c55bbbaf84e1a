"""`graft why`: words in, plain values out, and what the screen shows of them."""
