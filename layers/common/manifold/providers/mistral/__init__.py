"""Mistral: batches of its own shape. Completions are OpenAI's."""
