"""Text into token shards: ingest, curate, tokenize."""
