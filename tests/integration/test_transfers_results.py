"""Results: the output and errors of an ended job are fetched, stored once and counted."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from files.transfers.retry_policy import ATTEMPTS, LASTING_ATTEMPTS
from local.provider import Fault
from manifold.queue import Message
from tests.support.files_app import SPECIAL, FilesApp
from tests.support.transfers import one_input

pytest_plugins = ("tests.support.files_app_fixtures",)


ANSWER = {"status_code": 200, "body": {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}}
OUTPUT = b"".join(
    json.dumps({"custom_id": str(number), "response": ANSWER, "error": None}).encode() + b"\n" for number in range(3)
)
ERRORS = json.dumps({"custom_id": "4", "response": None, "error": {"code": "batch_expired"}}).encode() + b"\n"
COUNTED = {
    "requests": 4,
    "failed_requests": 1,
    "input_tokens": 21,
    "cached_tokens": 0,
    "output_tokens": 6,
    "reasoning_tokens": 0,
}


async def ended_job(files_app: FilesApp, output: bytes | None = OUTPUT, errors: bytes | None = ERRORS) -> str:
    """A job that its provider has ended with these results."""
    file, _ = await one_input(files_app)
    files_app.insert_batch("batch_1", file.id, "finalizing")
    refs = [None if content is None else result(files_app, content) for content in (output, errors)]
    row = (await files_app.inputs(file.id))["mini"]
    files_app.sql(
        """INSERT INTO jobs (id, batch_id, shard_id, input_id, deployment_id, state, provider_ref, outcome, due_at,
               output_ref, output_file_id, error_ref, error_file_id)
           VALUES ('job_1', 'batch_1', 'shard_batch_1', %s, 'mini', 'ended', 'ref', 'completed', now(),
               %s, 'file-out', %s, 'file-err')""",
        row.id,
        *refs,
    )
    files_app.aws.s3.delete_object(Bucket=files_app.aws.environment["MANIFOLD_BUCKET"], Key=f"files/{file.id}")
    return "job_1"


def result(files_app: FilesApp, content: bytes) -> str:
    """A result file at the provider."""
    if not content:
        return files_app.provider.state.files.empty(SPECIAL.name).id
    with files_app.provider.state.files.result(SPECIAL.name, "output.jsonl") as made:
        made.write(content)
    assert made.file_id is not None
    return made.file_id


def job(files_app: FilesApp) -> tuple[str, Mapping[str, Any] | None]:
    ((state, results),) = files_app.sql("SELECT state, results FROM jobs WHERE id = 'job_1'")
    return state, results


async def test_results_are_stored_and_counted_and_the_batch_is_woken(files_app: FilesApp) -> None:
    await files_app.deliver(Message("job", await ended_job(files_app)))

    assert files_app.aws.read("files/file-out") == OUTPUT
    assert files_app.aws.read("files/file-err") == ERRORS
    output, error = {"bytes": len(OUTPUT), "lines": 3}, {"bytes": len(ERRORS), "lines": 1}
    assert job(files_app) == (
        "stored",
        {"output": output, "error": error, "usage": COUNTED, "cost": None, "exact": True},
    )
    assert files_app.control_messages() == ["shard_batch_1"]


@pytest.mark.parametrize("errors", [None, b""])
async def test_an_empty_error_file_is_none(files_app: FilesApp, errors: bytes | None) -> None:
    await files_app.deliver(Message("job", await ended_job(files_app, errors=errors)))

    results = job(files_app)[1]
    assert results is not None
    assert results["error"] is None
    assert files_app.aws.keys() == ["files/file-out"]


async def test_large_results_are_stored_completely(files_app: FilesApp) -> None:
    output = b"".join(OUTPUT.replace(b'"custom_id": "', b'"custom_id": "%d-' % number) for number in range(40_000))

    await files_app.deliver(Message("job", await ended_job(files_app, output)))

    assert files_app.aws.read("files/file-out") == output
    results = job(files_app)[1]
    assert results is not None
    assert results["output"] == {"bytes": len(output), "lines": 120_000}
    assert results["usage"]["input_tokens"] == 120_000 * 7


async def test_a_results_message_that_comes_again_or_twice_at_once_stores_them_once(files_app: FilesApp) -> None:
    message = Message("job", await ended_job(files_app))

    await asyncio.gather(files_app.deliver(message), files_app.deliver(message))
    await files_app.deliver(message)

    assert len(files_app.provider.log(SPECIAL.name, "files.content")) == 2
    assert files_app.control_messages() == ["shard_batch_1"]


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut"])
async def test_results_that_break_off_are_fetched_again_from_the_start(files_app: FilesApp, kind: Any) -> None:
    message = Message("job", await ended_job(files_app))
    files_app.provider.fail(Fault(kind=kind, route="files.content", times=3))

    for _ in range(3):
        await files_app.deliver(message)
        assert job(files_app) == ("ended", None)
        files_app.age(901)
    await files_app.deliver(message)

    assert files_app.aws.read("files/file-out") == OUTPUT
    assert job(files_app)[0] == "stored"


async def test_results_are_waited_for_while_the_provider_is_down_however_long(files_app: FilesApp) -> None:
    message = Message("job", await ended_job(files_app))
    files_app.provider.fail(Fault(kind="error", route="files.content", times=None))

    for _ in range(2 * ATTEMPTS):
        await files_app.deliver(message)
        files_app.age(901)

    assert job(files_app) == ("ended", None)


async def test_results_that_the_provider_has_lost_are_given_up(files_app: FilesApp) -> None:
    message = Message("job", await ended_job(files_app))
    files_app.provider.state.files.clear()

    for _ in range(LASTING_ATTEMPTS):
        await files_app.deliver(message)
        files_app.age(901)

    state, results = job(files_app)
    assert state == "stored"
    assert results is not None
    assert (results["output"], results["error"]) == (None, None)
    assert results["lost"] == "The provider answered HTTP 404: No such File object: ***"
    assert files_app.control_messages() == ["shard_batch_1"]


async def test_results_of_a_deployment_that_is_gone_wait_for_it_to_come_back(files_app: FilesApp) -> None:
    message = Message("job", await ended_job(files_app))
    files_app.sql("UPDATE jobs SET deployment_id = 'gone'")
    await files_app.deliver(message)
    assert job(files_app)[0] == "ended"

    files_app.sql("UPDATE jobs SET deployment_id = 'mini'")
    files_app.age(301)
    await files_app.deliver(message)

    assert job(files_app)[0] == "stored"
