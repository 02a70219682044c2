"""Joining a large file uses no more memory than joining a smaller one, and no more than streaming needs."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator

import psycopg
import pytest

from files.app import create
from local.places import ROOT
from manifold.jsonl.lines import MAX_LINE_BYTES
from manifold.jsonl.report import Report
from tests.support import gateways
from tests.support.plain_s3 import PlainS3, serving
from tests.support.provider import chat_line
from tests.support.uploads import MIB, Uploader

STREAM_BYTES = 64 * MIB
"""Four pieces of 2 MiB that are read, three parts of 6 MiB that are sent, one that is filled, and their copies."""
MANY_LINES_BYTES = 96 * MIB
"""The same, 12 bytes for each of a million ids, and what finds equal ones among them."""
LONG_LINE_BYTES = 320 * MIB
"""The line, the same with marks, the parsed line, and the stream's own memory: a fifth of the function's."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainS3]:
    with serving() as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


async def test_a_file_of_hundred_megabytes_is_joined_in_constant_memory(database_url: str, s3: PlainS3) -> None:
    line = chat_line("gpt-batch", "request-0000", "x" * 4000)
    small, large = (b"".join(line.replace(b"0000", b"%04d" % n) for n in range(count)) for count in (10, 26_000))
    assert len(large) > 100 * MIB
    gateway = gateways.gateway(database_url)
    async with gateways.client(create(gateway)) as client:
        uploads = [await Uploader(client).send_parts(content) for content in (small, large)]
    await gateway.store.close()

    before, after = await completed(database_url, uploads)

    assert after - before < STREAM_BYTES
    assert [len(content) for key, content in s3.objects.items() if "/files/" in key] == [len(small), len(large)]


@pytest.mark.parametrize("by", ["request", "worker"])
async def test_a_million_lines_are_checked_in_bounded_memory(database_url: str, s3: PlainS3, by: str) -> None:
    line = chat_line("gpt-batch", "request-0000000", "")
    contents = [b"".join(line.replace(b"0000000", b"%07d" % n) for n in range(count)) for count in (10, 1_000_000)]
    gateway = gateways.gateway(database_url)
    async with gateways.client(create(gateway)) as client:
        uploads = [await Uploader(client).send_parts(content) for content in contents]
    await gateway.store.close()

    before, after = await completed(database_url, uploads, by)

    assert after - before < MANY_LINES_BYTES
    with psycopg.connect(database_url) as connection:
        ((report,),) = connection.execute("SELECT report FROM files WHERE bytes > 1000000").fetchall()
    blocks = Report.from_json(report).blocks()
    assert (len(blocks), sum(block.requests for block in blocks)) == (1000, 1_000_000)


async def test_lines_of_almost_the_longest_are_checked_in_a_few_times_their_length(
    database_url: str, s3: PlainS3
) -> None:
    line = chat_line("gpt-batch", "request-0", "x" * (MAX_LINE_BYTES - MIB))
    contents = chat_line("gpt-batch", "request-0"), b"".join(line.replace(b"-0", b"-%d" % n, 1) for n in range(3))
    gateway = gateways.gateway(database_url)
    async with gateways.client(create(gateway)) as client:
        uploads = [await Uploader(client).send_parts(content) for content in contents]
    await gateway.store.close()

    before, after = await completed(database_url, uploads)

    assert after - before < LONG_LINE_BYTES
    with psycopg.connect(database_url) as connection:
        reports = connection.execute("SELECT report FROM files ORDER BY bytes").fetchall()
    assert [(report["lines"], report["error_count"]) for (report,) in reports] == [(1, 0), (3, 0)]


async def completed(database_url: str, uploads: list[tuple[str, list[str]]], by: str = "request") -> list[int]:
    """The peak memory of a process that completes these uploads within the request, or by the worker; after each."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.upload_completion_process", database_url, json.dumps(uploads), by,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "layers/common:functions:."},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [int(line) for line in output.split()]
