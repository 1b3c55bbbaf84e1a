"""What every room of the house shares and nothing else: no torch, no I/O beyond artifacts."""
