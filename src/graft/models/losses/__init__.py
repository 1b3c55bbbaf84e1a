"""The only places that hold logits: token losses and divergences by chunks of the vocabulary."""
