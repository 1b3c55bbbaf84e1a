"""Where tensors live: batches, the model, its attention, and the one place that ever holds logits."""
