"""One worker of `bench.own_execution`, as a process: runs chunks until all of the batch have ended, or its bare peer.

It prints a JSON object: seconds, processor seconds, statements, writes to S3, and how many MiB more it had than at most
before its first call.
"""

import argparse
import asyncio
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp
import orjson
import psycopg

from batches.execution.chunk_execution import WORK_SECONDS, ChunkExecution
from bench.in_memory import InMemoryQueue, InMemoryStorage
from manifold import observe
from manifold.config import Environment
from manifold.dispatch.dispatcher import Dispatcher
from manifold.gateway import Gateway
from manifold.providers.registry import close_providers
from manifold.store.files import storage_key

CALLS = 64
FILE_ID = "file-Bench"
GROUP = "model"


def lines(requests: int) -> bytes:
    """The file of a batch of so many requests."""
    return b"".join(
        orjson.dumps(
            {
                "custom_id": f"request-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": GROUP, "messages": [{"role": "user", "content": f"hello {number} " * 20}]},
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for number in range(requests)
    )


class ForgetfulStorage(InMemoryStorage):
    """A bucket that keeps no results, so that the memory is the worker's own, and that of the file."""

    async def put(self, key: str, body: bytes) -> None:
        if key == storage_key(FILE_ID):
            await super().put(key, body)
        else:
            self.calls += 1


@dataclass
class Statements:
    """Counts what Postgres is sent in this process, once it is installed."""

    count: int = 0

    def install(self) -> None:
        execute: Callable[..., Awaitable[Any]] = psycopg.AsyncCursor.execute

        async def counted(cursor: Any, *arguments: Any, **more: Any) -> Any:
            self.count += 1
            return await execute(cursor, *arguments, **more)

        psycopg.AsyncCursor.execute = counted  # type: ignore[method-assign, assignment]


async def execute(requests: int) -> dict[str, float]:
    """Run the chunks that are due, one after the other, with the variables of the process."""
    observe.logger.setLevel("ERROR")
    gateway = Gateway(Environment(dict(os.environ)))
    storage, statements = ForgetfulStorage(), Statements()
    await storage.put(storage_key(FILE_ID), lines(requests))
    settings = gateway.config.router_settings
    dispatcher = Dispatcher(gateway.deployments, settings, gateway.store, gateway.prices, WORK_SECONDS)
    execution = ChunkExecution(gateway.store, storage, InMemoryQueue(), gateway.deployments, dispatcher, settings)
    statements.install()
    storage.calls = 0
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        before = _memory()
        began, computed = time.perf_counter(), time.process_time()
        while (chunk_id := _due(connection)) is not None:
            await (execution.run(chunk_id) if chunk_id else asyncio.sleep(0.05))
        seconds, processor = time.perf_counter() - began, time.process_time() - computed
    await gateway.store.close()
    await close_providers()
    counts = {"statements": statements.count, "writes": storage.calls}
    return {"seconds": seconds, "processor": processor, "memory": _memory() - before, **counts}


def _memory() -> float:
    """The most memory that the process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _due(connection: psycopg.Connection) -> str | None:
    """A chunk to run; an empty text where others run all that are left, `None` where none is left."""
    rows = connection.execute("SELECT id, lease FROM chunks WHERE state = 'open' ORDER BY due_at").fetchall()
    if not rows:
        return None
    return next((chunk_id for chunk_id, lease in rows if lease is None), "")


async def call_bare(requests: int, base_url: str) -> dict[str, float]:
    """The same calls by a script with the same client, which keeps what it gets as JSON Lines."""
    bodies = iter([json.loads(line)["body"] for line in lines(requests).splitlines()])
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    output = BytesIO()
    async with aiohttp.ClientSession(connector=connector) as session:

        async def run() -> None:
            for body in bodies:
                content = orjson.dumps(body)
                async with session.post(f"{base_url}/chat/completions", data=content, headers=headers) as answer:
                    output.write(orjson.dumps({"response": orjson.loads(await answer.read())}) + b"\n")

        before = _memory()
        began, computed = time.perf_counter(), time.process_time()
        await asyncio.gather(*(run() for _ in range(CALLS)))
        seconds, processor = time.perf_counter() - began, time.process_time() - computed
    return {"seconds": seconds, "processor": processor, "memory": _memory() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--bare", metavar="BASE_URL")
    arguments = parser.parse_args()
    work = call_bare(arguments.requests, arguments.bare) if arguments.bare else execute(arguments.requests)
    print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
