"""What changes the weights or modules of a model without a training step."""
