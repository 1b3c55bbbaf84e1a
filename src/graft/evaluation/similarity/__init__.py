"""How alike texts are, by what a base makes of them."""
