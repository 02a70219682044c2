"""The replication of a file to one deployment, as the worker does it: read, rewritten, sent as a form over HTTP.

The disk stands for the bucket. The provider is the simulated one, in a process of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.fixture import provider
from bench.measure import Measure, processor
from files.transfers.replication import rewritten
from local.provider.server import defaults
from manifold.jsonl.report import Report
from manifold.providers import Endpoint, Input
from manifold.providers.batch_client import BatchClient
from manifold.providers.openai.batches import OpenAIBatches

CHUNK_BYTES = 1024 * 1024


@contextmanager
def replicated(path: Path, report: Report, model: str) -> Iterator[Measure]:
    """The measure of one replication of the file, in the processor time of this process."""
    with provider() as port, asyncio.Runner() as runner:
        address = defaults(port)
        base_url, key = address["OPENAI_PROVIDER_API_BASE"], address["OPENAI_PROVIDER_API_KEY"]
        at = Endpoint(model=model, base_url=base_url, api_key=key)
        http = BatchClient()
        adapter = OpenAIBatches(http)
        data = Input(
            id="input_bench",
            bytes=report.rewritten_bytes(model),
            lines=lambda: rewritten(_chunks(path), model, report),
        )
        yield processor(lambda: runner.run(adapter.prepare(at, data)))
        runner.run(http.close())


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
