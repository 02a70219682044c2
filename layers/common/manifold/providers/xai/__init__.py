"""xAI: batches of its own shape. Its completions are OpenAI's."""
