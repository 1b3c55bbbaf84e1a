"""This process: device and precision, its place among others, what it shows. No artifact depends on the words."""
