"""What is asked of laws: plain values in, plain values out."""
