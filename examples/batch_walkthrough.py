"""From a file of requests to the file of answers, with the OpenAI SDK as it is.

`make up` starts a stack and writes `.local/env`; `set -a; source .local/env; set +a` tells the SDK where it is.
"""

import json
import time
from pathlib import Path

from openai import OpenAI
from openai.types import Batch

REQUESTS = Path(__file__).with_name("request.jsonl")
OUTPUT = Path(__file__).parents[1] / ".local" / "unified_batch_output.jsonl"
ENDED = {"completed", "failed", "expired", "cancelled"}
SECONDS = 300

client = OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY


def wait(batch: Batch) -> Batch:
    """Poll until the batch has ended, and show each change of its status."""
    deadline = time.monotonic() + SECONDS
    shown = None
    while batch.status not in ENDED:
        if time.monotonic() > deadline:
            raise SystemExit(f"batch {batch.id} is still {batch.status} after {SECONDS} s")
        time.sleep(1)
        batch = client.batches.retrieve(batch.id)
        counts = batch.request_counts
        line = f"  {batch.status}" + (f", {counts.completed} of {counts.total} done" if counts else "")
        if line != shown:
            print(line, flush=True)
            shown = line
    return batch


# Upload file: it is written to every deployment of the group, with that deployment's own model name
with REQUESTS.open("rb") as requests:
    batch_input_file = client.files.create(
        file=requests,
        purpose="batch",
        extra_body={"target_model_names": "gpt-4o-batch"},
    )
print(batch_input_file)

# Create batch: one of the deployments gets it
batch = client.batches.create(
    input_file_id=batch_input_file.id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata={"description": "Test batch job"},
)
print(batch)

# Retrieve batch, until it has ended
batch_response = wait(batch)
print(f"status: {batch_response.status}, output_file_id: {batch_response.output_file_id}")

# Download file
output_file_id = batch_response.output_file_id or batch_response.error_file_id
if not output_file_id:
    raise SystemExit(f"no output: {batch_response.errors}")
raw_responses = client.files.content(output_file_id).text.strip().split("\n")
OUTPUT.parent.mkdir(exist_ok=True)
with OUTPUT.open("w") as output_file:
    for raw_response in raw_responses:
        json.dump(json.loads(raw_response), output_file)
        output_file.write("\n")

# List batches
list_batch_response = client.batches.list(limit=10, extra_query={"target_model_names": "gpt-4o-batch"})
print(f"batches: {[listed.id for listed in list_batch_response]}")

# Cancel batch: another one, for this one has ended
second = client.batches.create(
    input_file_id=batch_input_file.id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata={"description": "To be cancelled"},
)
batch_response = wait(client.batches.cancel(second.id))
print(f"status: {batch_response.status}")
if batch_response.status == "completed":
    print("  the provider was faster than the cancel")
elif batch_response.status != "cancelled":
    raise SystemExit("the second batch was not cancelled")

print(f"\n{OUTPUT}:")
print(OUTPUT.read_text(), end="")
if len(raw_responses) != len(REQUESTS.read_text().splitlines()):
    raise SystemExit("an answer is missing")
print("demo: ok")
