"""OpenRouter's batches. Its completions have OpenAI's form."""
