"""OpenAI's API, and that of any server that is like it: batches and completions."""
