"""Sending a large file to a provider, and fetching a large result, uses no more memory than streaming needs."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from files.app import create
from local.places import ROOT
from local.provider import Simulator
from manifold.jsonl.check import Check
from manifold.jsonl.lines import MAX_LINE_BYTES
from tests.support import gateways
from tests.support.files_app import SPECIAL
from tests.support.plain_s3 import PlainS3, serving
from tests.support.provider import chat_line
from tests.support.uploads import MIB, Uploader, success_body

pytest_plugins = ("tests.support.provider_fixtures",)

INPUT_BYTES = 32 * MIB
"""A megabyte that is read, the same rewritten, and HTTP's copies of it."""
LONG_LINE_BYTES = 256 * MIB
"""The line, its halves, the rewritten line, and HTTP's copies of it: a quarter of the function's memory."""
RESULT_BYTES = 48 * MIB
"""Three parts of 5 MiB that are sent, one that is filled, and their copies."""
JOIN_BYTES = 64 * MIB
"""The hashes of the lines, three parts of 5 MiB that are sent, those that are filled, and their copies. A million lines
take less than 48 MiB."""
JOIN_LINES = 200_000
SHARD_BYTES = 40 * MIB
"""The report of a million lines, eight pieces of 2 MiB that are read ahead, the same rewritten, and HTTP's copies."""
ANSWER = {"status_code": 200, "body": {"usage": {"prompt_tokens": 7, "completion_tokens": 2}, "text": "x" * 4000}}


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


@pytest.fixture
def provider(simulated_provider: Simulator) -> Simulator:
    simulated_provider.state.accounts[SPECIAL.name] = SPECIAL
    return simulated_provider


async def test_a_file_of_hundred_megabytes_is_brought_in_constant_memory(
    database_url: str, s3: PlainS3, provider: Simulator
) -> None:
    line = chat_line("mini-batch", "request-0000", "x" * 4000)
    inputs = [await _input(database_url, line, count) for count in (10, 26_000)]

    before, after = await _worked_off(database_url, provider, [("input", input_id) for input_id in inputs])

    assert after - before < INPUT_BYTES
    assert [entry["lines"] for entry in provider.log(SPECIAL.name, "files.create")] == [10, 26_000]


async def test_results_of_hundred_megabytes_are_stored_in_constant_memory(
    database_url: str, s3: PlainS3, provider: Simulator
) -> None:
    input_id = await _input(database_url, chat_line("mini-batch", "request-1"), 1)
    jobs = [_job(database_url, provider, input_id, count) for count in (10, 26_000)]

    before, after = await _worked_off(database_url, provider, [("job", job_id) for job_id in jobs])

    assert after - before < RESULT_BYTES
    stored = [content for key, content in s3.objects.items() if "file-out" in key]
    assert [content.count(b"\n") for content in stored] == [10, 26_000]


async def test_lines_of_almost_the_longest_are_brought_in_a_few_times_their_length(
    database_url: str, s3: PlainS3, provider: Simulator
) -> None:
    long = chat_line("mini-batch", "request-0000", "x" * (MAX_LINE_BYTES - MIB))
    inputs = [
        await _input(database_url, chat_line("mini-batch", "request-0000"), 1), await _input(database_url, long, 3)
    ]  # fmt: skip

    before, after = await _worked_off(database_url, provider, [("input", input_id) for input_id in inputs])

    assert after - before < LONG_LINE_BYTES
    assert [entry["lines"] for entry in provider.log(SPECIAL.name, "files.create")] == [1, 3]


async def test_the_results_of_many_lines_are_joined_in_bounded_memory(
    database_url: str, s3: PlainS3, provider: Simulator
) -> None:
    batches = [_ended_shards(database_url, s3, count) for count in (10, JOIN_LINES)]

    before, after = await _worked_off(database_url, provider, [("join", batch_id) for batch_id in batches])

    assert after - before < JOIN_BYTES
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT output_file_id, error_file_id, completed, failed FROM batches ORDER BY total")
        for (output, error, completed, failed), count in zip(rows.fetchall(), (10, JOIN_LINES), strict=True):
            assert (completed, failed) == (count - count // 10, count // 10)
            assert s3.objects[f"manifold-tests/files/{output}"].count(b"\n") == completed
            assert s3.objects[f"manifold-tests/files/{error}"].count(b'"results_incomplete"') == failed


async def test_a_shard_of_a_million_lines_is_brought_in_constant_memory(
    database_url: str, s3: PlainS3, provider: Simulator
) -> None:
    inputs = [_shard_input(database_url, s3, 1000, "10-19"), _shard_input(database_url, s3, 1_000_000, "475500-525499")]

    before, after = await _worked_off(database_url, provider, [("input", input_id) for input_id in inputs])

    assert after - before < SHARD_BYTES
    assert [entry["lines"] for entry in provider.log(SPECIAL.name, "files.create")] == [10, 50_000]
    [file], _ = provider.state.files.page(SPECIAL.name, "batch", None, 1)
    ends = [json.loads(line)["custom_id"] for line in (file.path.read_bytes().splitlines()[n] for n in (0, -1))]
    assert ends == ["0475500", "0525499"]


def _shard_input(database_url: str, s3: PlainS3, count: int, selection: str) -> str:
    """An input of these requests of a file that has so many thousands of lines, all of one length."""
    line = chat_line("mini-batch", "%07d").replace(b"hello", b"some words " * 10)
    content = b"".join(line % number for number in range(count))
    block = Check.whole(content[: len(line % 0) * 1000])
    blocks = count // 1000
    report = replace(
        block,
        bytes=len(content),
        lines=count,
        urls={url: replace(use, count=count) for url, use in block.urls.items()},
        index=tuple(range(0, len(content), block.bytes)),
        models=count,
        kept_bytes=block.kept_bytes * blocks,
        input_tokens=(block.input_tokens or ()) * blocks,
        output_tokens=(block.output_tokens or ()) * blocks,
        firsts=tuple(range(0, count, 1000)),
        checksums=(block.checksums or ()) * blocks,
    )
    s3.objects[f"manifold-tests/files/file-in-{count}"] = content
    parameters = {
        "count": count,
        "bytes": len(content),
        "report": json.dumps(report.to_json()),
        "selection": selection,
    }
    with psycopg.connect(database_url) as connection:
        for statement in (
            """INSERT INTO files (id, purpose, filename, bytes, status, groups, report)
               VALUES ('file-in-' || %(count)s, 'batch', 'in.jsonl', %(bytes)s, 'processed', '{mini-batch}',
                   %(report)s)""",
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, expires_at, total)
               VALUES ('batch_' || %(count)s, 'file-in-' || %(count)s, '/v1/chat/completions', '24h', '{mini-batch}',
                   now() + interval '1 day', %(count)s)""",
            """INSERT INTO shards (id, batch_id, number, selection, requests, bytes)
               VALUES ('shard_' || %(count)s, 'batch_' || %(count)s, 0, %(selection)s, 50000, 1)""",
            """INSERT INTO inputs (id, shard_id, deployment_id)
               VALUES ('input_' || %(count)s, 'shard_' || %(count)s, 'mini')""",
        ):
            connection.execute(statement.encode(), parameters)
    return f"input_{count}"


def _ended_shards(database_url: str, s3: PlainS3, count: int) -> str:
    """A batch of so many lines whose one job answered nine of ten."""
    answer = b'{"custom_id":"%d","response":' + json.dumps(ANSWER | {"body": {"text": "x" * 100}}).encode() + b"}\n"
    content = b"".join(chat_line("mini-batch", "0000").replace(b"0000", b"%d" % number) for number in range(count))
    output = b"".join(answer % number for number in range(count) if number % 10)
    s3.objects[f"manifold-tests/files/file-in-{count}"] = content
    s3.objects[f"manifold-tests/files/file-out-{count}"] = output
    results = {"output": {"bytes": len(output), "lines": count - count // 10}, "error": None, "exact": False}
    parameters = {
        "count": count,
        "bytes": len(content),
        "report": json.dumps(Check.whole(content).to_json()),
        "results": json.dumps(results),
    }
    with psycopg.connect(database_url) as connection:
        for statement in (
            """INSERT INTO files (id, purpose, filename, bytes, status, groups, report)
               VALUES ('file-in-' || %(count)s, 'batch', 'in.jsonl', %(bytes)s, 'processed', '{mini-batch}',
                   %(report)s)""",
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, expires_at, total)
               VALUES ('batch_' || %(count)s, 'file-in-' || %(count)s, '/v1/chat/completions', '24h', '{mini-batch}',
                   'finalizing', now() + interval '1 day', %(count)s)""",
            """INSERT INTO shards (id, batch_id, number, requests, bytes, state, outcome, due_at, ended_at)
               VALUES ('shard_' || %(count)s, 'batch_' || %(count)s, 0, %(count)s, %(bytes)s, 'ended', 'completed',
                   NULL, now())""",
            """INSERT INTO inputs (id, file_id, deployment_id, state, due_at)
               VALUES ('input_' || %(count)s, 'file-in-' || %(count)s, 'mini', 'ready', NULL)""",
            """INSERT INTO jobs (id, batch_id, shard_id, input_id, deployment_id, state, provider_ref, outcome,
                   output_file_id, results, requests)
               VALUES ('job_' || %(count)s, 'batch_' || %(count)s, 'shard_' || %(count)s, 'input_' || %(count)s, 'mini',
                   'settled', 'ref-' || %(count)s, 'completed', 'file-out-' || %(count)s, %(results)s, %(count)s)""",
        ):
            connection.execute(statement.encode(), parameters)
    return f"batch_{count}"


async def _input(database_url: str, line: bytes, count: int) -> str:
    """A file with this many lines, and its input, which must be replicated."""
    content = b"".join(line.replace(b"0000", b"%04d" % number) for number in range(count))
    gateway = gateways.gateway(database_url)
    async with gateways.client(create(gateway)) as client:
        uploader = Uploader(client)
        file_id = success_body(await uploader.complete(*await uploader.send_parts(content)))["file"]["id"]
    async with gateway.store.session() as tables:
        [row] = await tables.inputs.of_file(file_id)
    await gateway.store.close()
    return row.id


def _job(database_url: str, provider: Simulator, input_id: str, count: int) -> str:
    """A job that the provider has ended with an output of this many lines."""
    with provider.state.files.result(SPECIAL.name, "output.jsonl") as output:
        for number in range(count):
            answer = {"custom_id": str(number), "response": ANSWER, "error": None}
            output.write(json.dumps(answer).encode() + b"\n")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, expires_at)
               SELECT 'batch_' || %(count)s, file_id, '/v1/chat/completions', '24h', '{mini-batch}', 'finalizing',
                   now() + interval '1 day' FROM inputs WHERE id = %(input)s""",
            {"count": count, "input": input_id},
        )
        connection.execute(
            """INSERT INTO jobs (id, batch_id, input_id, deployment_id, state, provider_ref, outcome, due_at,
                   output_ref, output_file_id)
               VALUES ('job_' || %(count)s, 'batch_' || %(count)s, %(input)s, 'mini', 'ended', 'ref-' || %(count)s,
                   'completed', now(), %(ref)s, 'file-out-' || %(count)s)""",
            {"count": count, "input": input_id, "ref": output.file_id},
        )
    return f"job_{count}"


async def _worked_off(database_url: str, provider: Simulator, transfers: list[tuple[str, str]]) -> list[int]:
    """The peak memory of a process that runs these transfers, after each."""
    account = {"OPENAI_PROVIDER_API_BASE": provider.base(SPECIAL.name), "OPENAI_PROVIDER_API_KEY": SPECIAL.key}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.transfers_process", database_url, json.dumps(account),
        json.dumps(transfers),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "layers/common:functions:."},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [int(line) for line in output.splitlines() if line.isdigit()]
