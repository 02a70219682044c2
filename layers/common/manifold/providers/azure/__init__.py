"""Azure OpenAI: OpenAI's API at addresses of its own, in two forms."""
