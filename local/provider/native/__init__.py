"""The dialects of completions that are not OpenAI's: Anthropic, Cohere, Gemini and Bedrock, each strict in its way."""
