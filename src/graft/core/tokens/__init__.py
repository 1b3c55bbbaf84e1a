"""Text as tokens: encoders, chat templates, token shards."""
