"""One streamed chat completion, by an OpenAI SDK: prints when each of its chunks came, in Unix seconds, as JSON.

python sdk_stream.py MODEL PROMPT [CHUNKS]: it leaves after so many chunks. It needs `OPENAI_BASE_URL` and
`OPENAI_API_KEY`.
"""

import itertools
import json
import sys
import time

import openai
from openai.types.chat import ChatCompletionMessageParam

model, prompt, *most = sys.argv[1:]
messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
with openai.OpenAI() as client, client.chat.completions.create(model=model, messages=messages, stream=True) as stream:
    arrivals = [time.time() for _ in itertools.islice(stream, int(most[0]) if most else None)]
print(json.dumps(arrivals))
