"""`/chat/completions`, `/embeddings` and `/completions`: one call, or many at once."""
