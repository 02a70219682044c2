"""The event of a batch's end, from the deployed stack to an endpoint on this machine."""

import time

import httpx
from openai import OpenAI

from local.running import Running
from tests.support.provider import chat_lines
from tests.support.webhook_endpoint import listening

SECONDS = 120


def test_the_event_of_a_cancelled_batch_arrives_signed(stack: Running) -> None:
    client = OpenAI(base_url=stack.base_url, api_key=stack.api_key)
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with listening() as endpoint:
        body = {"url": endpoint.url, "events": ["batch.cancelled", "batch.completed"]}
        webhook = httpx.post(f"{stack.base_url}/webhooks", json=body, headers=headers, timeout=30).json()
        file = client.files.create(file=("in.jsonl", chat_lines("gpt-4o-batch", 1)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        client.batches.cancel(batch.id)
        deadline = time.monotonic() + SECONDS
        while not endpoint.received:
            assert time.monotonic() < deadline, client.batches.retrieve(batch.id)
            time.sleep(0.1)
        httpx.delete(f"{stack.base_url}/webhooks/{webhook['id']}", headers=headers, timeout=30).raise_for_status()

    [request] = endpoint.received
    event = client.webhooks.unwrap(request.body, request.headers, secret=webhook["secret"])
    assert event.type in ("batch.cancelled", "batch.completed")
    assert request.body.decode().count(batch.id) == 1
