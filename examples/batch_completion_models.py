import os

from clients.completions import batch_completion_models

os.environ["ANTHROPIC_API_KEY"] = ""
os.environ["OPENAI_API_KEY"] = ""
os.environ["COHERE_API_KEY"] = ""

response = batch_completion_models(
    models=["gpt-3.5-turbo", "claude-instant-1.2", "command-nightly"],
    messages=[{"role": "user", "content": "Hey, how's it going"}],
)
print(response)
