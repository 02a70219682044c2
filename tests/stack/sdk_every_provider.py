"""Forty batches of the example's requests in one group, and one in each provider's own, all at once: run by an SDK.

It needs `OPENAI_BASE_URL` and `OPENAI_API_KEY`, and fails by an exception. Its last line says how many batches ended.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from openai import OpenAI
from openai.types import Batch
from openai.types.chat import ChatCompletion

REQUESTS = Path(__file__).parents[2] / "examples" / "request.jsonl"
GROUP = "gpt-4o-batch"
FILES, BATCHES = 8, 40
MANY = 120
"""Requests where the provider takes no fewer than 100."""
SECONDS = 240
ENDED = {"completed", "failed", "expired", "cancelled"}

client = OpenAI(_strict_response_validation=True)


def upload(content: bytes, group: str) -> str:
    file = client.files.create(
        file=("request.jsonl", content), purpose="batch", extra_body={"target_model_names": group}
    )
    return file.id


def create(file_id: str) -> Batch:
    return client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")


def ended(batches: list[Batch]) -> list[Batch]:
    """The batches, once all have ended."""
    deadline = time.monotonic() + SECONDS
    while any(batch.status not in ENDED for batch in batches):
        assert time.monotonic() < deadline, [batch for batch in batches if batch.status not in ENDED]
        time.sleep(1)
        batches = [batch if batch.status in ENDED else client.batches.retrieve(batch.id) for batch in batches]
    return batches


def check(batch: Batch, requests: list[str]) -> None:
    """Each request has one answer, of the SDK's strict type."""
    assert (batch.status, batch.error_file_id) == ("completed", None), batch
    assert batch.request_counts, batch
    assert (batch.request_counts.total, batch.request_counts.completed) == (len(requests), len(requests)), batch
    assert batch.output_file_id, batch
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert Counter(line["custom_id"] for line in lines) == Counter(requests)
    for line in lines:
        answer = ChatCompletion.model_validate(line["response"]["body"], strict=True)
        assert line["response"]["status_code"] == 200
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].message.content
        assert answer.usage
        assert answer.usage.total_tokens > 0


def requests_of(content: bytes) -> list[str]:
    return [json.loads(line)["custom_id"] for line in content.splitlines()]


def many(content: bytes) -> bytes:
    """So many requests like the first."""
    line = json.loads(content.splitlines()[0])
    return b"".join(json.dumps(line | {"custom_id": f"request-{n}"}).encode() + b"\n" for n in range(MANY))


def main(groups: list[str], with_many: list[str]) -> None:
    content = REQUESTS.read_bytes()
    files = [upload(content, GROUP) for _ in range(FILES)]
    batches = [(create(files[number % FILES]), requests_of(content)) for number in range(BATCHES)]
    for group in groups:
        own = many(content) if group in with_many else content
        own = own.replace(GROUP.encode(), group.encode())
        batches.append((create(upload(own, group)), requests_of(own)))
    for batch, (_, requests) in zip(ended([batch for batch, _ in batches]), batches, strict=True):
        check(batch, requests)
    print(f"{len(batches)} batches completed")


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2].split(","))
