import os

from clients.completions import batch_completion

os.environ["ANTHROPIC_API_KEY"] = ""


responses = batch_completion(
    model="claude-2",
    messages=[
        [{"role": "user", "content": "good morning? "}],
        [{"role": "user", "content": "what's the time? "}],
    ],
)
print(responses)
