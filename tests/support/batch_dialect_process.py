"""Runs batches of a dialect in a process of its own, so that its memory can be measured.

Its arguments are `PROVIDER ENDPOINT CHARACTERS COUNT…`: of each prompt, and the requests of each batch.

Streams as the gateway's worker does. Prints after each batch its answers, and the peak of the resident memory so far.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.line_translation import TranslatedRequests, TranslatedResults
from manifold.providers import ENDED, BatchProvider, Endpoint, Input, Job, JobStatus, Signature
from manifold.providers.registry import batch_provider_for, close_providers
from manifold.scrubbing import Scrubber
from tests.support.memory import peak_memory

CHUNK = 1024 * 1024
LINES = 200
"""Lines of the client's file in a chunk."""
CHAT = "/v1/chat/completions"


async def run(provider: BatchProvider, at: Endpoint, count: int, characters: int, folder: Path) -> int:
    """How many of so many requests were answered."""
    input_id = f"input_{count}"
    path = folder / input_id
    with path.open("wb") as file:
        client = _client_lines(at.model, count, characters)
        requests = await _write(file, provider, at, input_id, client)

    async def lines() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    data = Input(input_id, path.stat().st_size, lines, requests, CHAT)
    prepared = await provider.prepare(at, data)
    job = Job(f"job_{count}", prepared.ref, CHAT, "24h", int(time.time()), input_id, requests, data)
    status = await _ended(provider, at, await provider.submit(at, job))
    return sum([await _answers(provider, at, input_id, count, ref) for ref in (status.output_ref,) if ref])


async def _write(
    file: BinaryIO, provider: BatchProvider, at: Endpoint, input_id: str, client: AsyncIterator[bytes]
) -> int:
    translator = provider.translator(at)
    if translator is None:
        count = 0
        async for chunk in client:
            count += chunk.count(b"\n")
            file.write(chunk)
        return count
    with TranslatedRequests(translator, input_id) as requests:
        async for chunk in requests.through(client):
            file.write(chunk)
        return requests.requests


async def _client_lines(model: str, count: int, characters: int) -> AsyncIterator[bytes]:
    text = ("some words " * characters)[:characters]
    for start in range(0, count, LINES):
        yield b"".join(_line(model, number, text) for number in range(start, min(start + LINES, count)))


def _line(model: str, number: int, text: str) -> bytes:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    return json.dumps({"custom_id": f"{number}", "method": "POST", "url": CHAT, "body": body}).encode() + b"\n"


async def _ended(provider: BatchProvider, at: Endpoint, ref: str) -> JobStatus:
    while True:
        known: dict[str, JobStatus] = {}
        await provider.poll(at, [ref], known)
        if ref in known and known[ref].state in ENDED:
            return known[ref]
        await asyncio.sleep(0.1)


async def _answers(provider: BatchProvider, at: Endpoint, input_id: str, count: int, ref: str) -> int:
    chunks, translator = provider.results(at, ref), provider.translator(at)
    if translator is None:
        return sum([chunk.count(b"\n") async for chunk in chunks])
    with CustomIdIndex() as index:
        index.extend([str(number) for number in range(count)])
        with TranslatedResults(translator, input_id, index, Scrubber()) as results:
            return sum([chunk.count(b"\n") async for chunk in results.answers(chunks)])


async def main(name: str, endpoint: dict[str, Any], characters: int, counts: list[int]) -> None:
    signature = endpoint.pop("signature")
    at = Endpoint(**endpoint, signature=Signature(**signature) if signature else None)
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            print(await run(batch_provider_for(name), at, count, characters, Path(folder)), peak_memory())
    await close_providers()


if __name__ == "__main__":
    name, endpoint, characters, *counts = sys.argv[1:]
    asyncio.run(main(name, json.loads(endpoint), int(characters), [int(count) for count in counts]))
