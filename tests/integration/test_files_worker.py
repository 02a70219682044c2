"""The transfers worker: a file to each deployment, a job's results to us, and the end of a deleted file."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from files.transfers import lease, purge, worker
from files.transfers.lease import LEASE_SECONDS
from files.transfers.retry_policy import ATTEMPTS, LASTING_ATTEMPTS
from local.provider import Account, Fault
from manifold.providers import Endpoint, Prepared, Provider
from manifold.queue import Message
from manifold.schemas import File
from tests.support.files_app import GENERAL, SPECIAL, FilesApp
from tests.support.provider import chat_lines

pytest_plugins = ("tests.support.files_app_fixtures",)

MODELS = {GENERAL.name: "general-deployment", SPECIAL.name: "special-model"}


def uploads(files_app: FilesApp, account: Account) -> list[dict[str, Any]]:
    """What the provider got, as far as it kept it."""
    return [entry for entry in files_app.provider.log(account.name, "files.create") if "file_id" in entry]


def at_provider(files_app: FilesApp, account: Account) -> list[str]:
    """The names of the files that the account has there now."""
    return [file.name for file in files_app.provider.state.files._files.values() if file.account == account.name]


async def one_input(files_app: FilesApp) -> tuple[File, Message]:
    """A file with one input, and the message that asks for it."""
    file = await files_app.upload(chat_lines("mini-batch", 3), target_model_names="mini-batch")
    (message,) = files_app.aws.take(files_app.aws.transfers_queue_url)
    return file, message


async def state(files_app: FilesApp, file: File, deployment: str = "mini") -> tuple[str, str | None]:
    row = (await files_app.inputs(file.id))[deployment]
    return row.state, row.error


# -- inputs -----------------------------------------------------------------------------------------------------------


async def test_every_deployment_gets_the_file_with_its_own_model_in_it(files_app: FilesApp) -> None:
    content = chat_lines("gpt-batch", 50)
    file = await files_app.upload(content)
    await files_app.deliver_all()

    inputs = await files_app.inputs(file.id)
    for account, deployment in ((GENERAL, "general"), (SPECIAL, "special")):
        (entry,) = uploads(files_app, account)
        assert entry["models"] == (MODELS[account.name],)
        assert entry["lines"] == 50
        assert entry["file_name"] == f"{inputs[deployment].id}.jsonl"
        assert (inputs[deployment].state, inputs[deployment].provider_ref) == ("ready", entry["file_id"])
        assert inputs[deployment].expires_at is not None
        stored = files_app.provider.state.files.get(account.name, entry["file_id"]).path.read_bytes()
        assert stored == content.replace(b'"gpt-batch"', json.dumps(MODELS[account.name]).encode())
    assert {one.state for one in (await files_app.file(file.id)).inputs or ()} == {"ready"}


async def test_the_batches_that_wait_for_an_input_are_woken(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.insert_batch("batch_waits", file.id)
    files_app.insert_batch("batch_runs", file.id, "in_progress")

    await files_app.deliver(message)

    assert files_app.control_messages() == ["batch_waits"]


async def test_a_message_that_comes_again_does_nothing(files_app: FilesApp) -> None:
    _, message = await one_input(files_app)

    for _ in range(3):
        await files_app.deliver(message)

    assert len(uploads(files_app, SPECIAL)) == 1


async def test_two_workers_with_the_same_message_make_one_copy(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.provider.fail(Fault(kind="delay", route="files.create", seconds=0.2))

    await asyncio.gather(*(files_app.deliver(message) for _ in range(3)))

    assert len(uploads(files_app, SPECIAL)) == 1
    assert await state(files_app, file) == ("ready", None)


async def until(files_app: FilesApp, condition: str) -> None:
    while not (await asyncio.to_thread(files_app.sql, f"SELECT 1 FROM inputs WHERE {condition}")):
        pass


async def test_a_lease_is_kept_while_bytes_flow_so_that_a_message_that_comes_again_does_nothing(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    file, message = await one_input(files_app)
    files_app.provider.fail(Fault(kind="delay", route="files.create", seconds=1))
    working = asyncio.create_task(files_app.deliver(message))
    await until(files_app, "lease IS NOT NULL")

    files_app.age(LEASE_SECONDS - 1)
    await until(files_app, f"leased_until > now() + interval '{LEASE_SECONDS - 1} seconds'")
    files_app.age(LEASE_SECONDS - 1)
    await files_app.deliver(message)
    await working

    assert len(uploads(files_app, SPECIAL)) == 1
    assert await state(files_app, file) == ("ready", None)


async def test_a_worker_that_lost_its_lease_stops(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    file, message = await one_input(files_app)
    files_app.provider.fail(Fault(kind="delay", route="files.create", seconds=60))
    working = asyncio.create_task(files_app.deliver(message))
    await until(files_app, "lease IS NOT NULL")

    files_app.sql("UPDATE inputs SET lease = 'another', leased_until = now() + interval '1 minute'")
    await working

    assert await state(files_app, file) == ("pending", None)
    assert files_app.sql("SELECT lease FROM inputs") == [("another",)]


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut", "garbage"])
async def test_a_provider_that_fails_three_times_gets_the_file_at_the_fourth(files_app: FilesApp, kind: Any) -> None:
    file, message = await one_input(files_app)
    files_app.provider.fail(Fault(kind=kind, route="files.create", times=3))

    for attempt in range(3):
        await files_app.deliver(message)
        assert (await state(files_app, file))[0] == "pending"
        assert files_app.aws.delayed(files_app.aws.transfers_queue_url) == attempt + 1
        await files_app.deliver(message)  # too early, so nothing happens
        files_app.age(901)
    await files_app.deliver(message)

    assert await state(files_app, file) == ("ready", None)
    assert len(files_app.provider.log(SPECIAL.name, "files.create")) == 4


async def test_retry_after_is_obeyed(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.provider.fail(Fault(kind="rate_limit", route="files.create", retry_after="120"))
    await files_app.deliver(message)

    files_app.age(115)
    await files_app.deliver(message)
    assert (await state(files_app, file))[0] == "pending"

    files_app.age(6)
    await files_app.deliver(message)
    assert (await state(files_app, file))[0] == "ready"


async def test_one_deployment_down_holds_up_no_other(files_app: FilesApp) -> None:
    file = await files_app.upload()
    files_app.provider.fail(Fault(kind="error", account=GENERAL.name, times=None))

    await files_app.deliver_all()

    states = {one.deployment: one.state for one in (await files_app.file(file.id)).inputs or ()}
    assert states == {"general": "pending", "special": "ready"}


TOLD = "*** says no"


@pytest.mark.parametrize(
    ("kind", "attempts", "shown"),
    [
        ("refuse", LASTING_ATTEMPTS, f"The provider answered HTTP 400: {TOLD}"),
        ("rate_limit", ATTEMPTS, f"The provider answered HTTP 429: {TOLD}"),
        ("cut", ATTEMPTS, "The provider gave no answer."),
    ],
)
async def test_a_provider_that_never_takes_it_fails_the_input_and_wakes_the_batches_at_first_and_last(
    files_app: FilesApp, kind: Any, attempts: int, shown: str
) -> None:
    file, message = await one_input(files_app)
    files_app.insert_batch("batch_waits", file.id)
    files_app.provider.fail(Fault(kind=kind, route="files.create", times=None, message="internal-host-17 says no"))

    woken = []
    for _ in range(attempts):
        assert (await state(files_app, file))[0] == "pending"
        await files_app.deliver(message)
        woken.append(files_app.control_messages())
        files_app.age(901)

    assert len(files_app.provider.log(SPECIAL.name, "files.create")) == attempts
    assert await state(files_app, file) == ("failed", shown)
    assert woken == [["batch_waits"], *[[]] * (attempts - 2), ["batch_waits"]]
    assert [(one.state, one.error) for one in (await files_app.file(file.id)).inputs or ()] == [("failed", shown)]


async def test_an_input_whose_workers_died_each_time_is_given_up(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.sql("UPDATE inputs SET attempts = %s", ATTEMPTS)

    await files_app.deliver(message)

    assert await state(files_app, file) == ("failed", "The transfer broke off too often.")
    assert uploads(files_app, SPECIAL) == []


async def test_an_input_of_a_deployment_that_is_gone_fails(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.sql("UPDATE inputs SET deployment_id = 'gone'")

    await files_app.deliver(message)

    assert (await state(files_app, file, "gone"))[0] == "failed"
    assert [(one.deployment, one.model) for one in (await files_app.file(file.id)).inputs or ()] == [("gone", None)]


async def test_a_dead_workers_input_is_taken_over_when_its_lease_is_over(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    async with files_app.gateway.store.session() as tables:
        assert await tables.inputs.claim(message.id, "of-the-dead", LEASE_SECONDS)

    await files_app.deliver(message)
    assert (await state(files_app, file))[0] == "pending"

    files_app.age(LEASE_SECONDS + 16)
    async with files_app.gateway.store.session() as tables:
        assert await tables.inputs.due(10) == [message.id]
    await files_app.deliver(message)
    assert (await state(files_app, file))[0] == "ready"


async def test_our_own_storage_being_down_puts_the_input_off(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.aws.s3.delete_object(Bucket=files_app.aws.environment["MANIFOLD_BUCKET"], Key=f"files/{file.id}")

    await files_app.deliver(message)

    assert await state(files_app, file) == ("pending", "The file storage did not answer. Try again shortly.")
    assert uploads(files_app, SPECIAL) == []


async def test_a_deleted_file_goes_to_no_provider(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    async with files_app.client() as client:
        await client.delete(f"/files/{file.id}")

    await files_app.deliver(message)

    assert uploads(files_app, SPECIAL) == []
    assert await files_app.inputs(file.id) == {}


async def test_a_deleted_file_that_an_open_batch_needs_still_goes(files_app: FilesApp) -> None:
    file, message = await one_input(files_app)
    files_app.insert_batch("batch_waits", file.id)
    async with files_app.client() as client:
        await client.delete(f"/files/{file.id}")

    await files_app.deliver(message)

    assert await state(files_app, file) == ("ready", None)


async def test_a_copy_that_arrives_after_the_purge_is_taken_back(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, message = await one_input(files_app)
    call = files_app.gateway.deployments.call

    async def purge_meanwhile(deployment: Any, request: Any, **more: Any) -> Any:
        async def and_purge(provider: Provider, at: Endpoint) -> Prepared:
            made: Prepared = await request(provider, at)
            monkeypatch.setattr(files_app.gateway.deployments, "call", call)
            async with files_app.client() as client:
                await client.delete(f"/files/{file.id}")
            await files_app.deliver(Message("file", file.id))
            return made

        return await call(deployment, and_purge, **more)

    monkeypatch.setattr(files_app.gateway.deployments, "call", purge_meanwhile)
    await files_app.deliver(message)

    assert len(uploads(files_app, SPECIAL)) == 1
    assert at_provider(files_app, SPECIAL) == []
    assert files_app.aws.keys() == []


# -- results ----------------------------------------------------------------------------------------------------------

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
        """INSERT INTO jobs (id, batch_id, input_id, deployment_id, state, provider_ref, outcome, due_at,
               output_ref, output_file_id, error_ref, error_file_id)
           VALUES ('job_1', 'batch_1', %s, 'mini', 'ended', 'ref', 'completed', now(),
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
    ((found, results),) = files_app.sql("SELECT state, results FROM jobs WHERE id = 'job_1'")
    return found, results


async def test_results_are_stored_and_counted_and_the_batch_is_woken(files_app: FilesApp) -> None:
    await files_app.deliver(Message("job", await ended_job(files_app)))

    assert files_app.aws.read("files/file-out") == OUTPUT
    assert files_app.aws.read("files/file-err") == ERRORS
    output, error = {"bytes": len(OUTPUT), "lines": 3}, {"bytes": len(ERRORS), "lines": 1}
    assert job(files_app) == ("stored", {"output": output, "error": error, "usage": COUNTED})
    assert files_app.control_messages() == ["batch_1"]


@pytest.mark.parametrize("errors", [None, b""])
async def test_an_empty_error_file_is_none(files_app: FilesApp, errors: bytes | None) -> None:
    await files_app.deliver(Message("job", await ended_job(files_app, errors=errors)))

    results = job(files_app)[1]
    assert results is not None
    assert results["error"] is None
    assert files_app.aws.keys() == ["files/file-out"]


async def test_large_results_arrive_whole(files_app: FilesApp) -> None:
    output = OUTPUT * 40_000

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
    assert files_app.control_messages() == ["batch_1"]


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

    found, results = job(files_app)
    assert found == "stored"
    assert results is not None
    assert (results["output"], results["error"]) == (None, None)
    assert results["lost"] == "The provider answered HTTP 404: No such File object: ***"
    assert files_app.control_messages() == ["batch_1"]


async def test_results_of_a_deployment_that_is_gone_wait_for_it_to_come_back(files_app: FilesApp) -> None:
    message = Message("job", await ended_job(files_app))
    files_app.sql("UPDATE jobs SET deployment_id = 'gone'")
    await files_app.deliver(message)
    assert job(files_app)[0] == "ended"

    files_app.sql("UPDATE jobs SET deployment_id = 'mini'")
    files_app.age(301)
    await files_app.deliver(message)

    assert job(files_app)[0] == "stored"


# -- deleted files ----------------------------------------------------------------------------------------------------


async def deleted_file(files_app: FilesApp) -> File:
    """A file that both deployments have, deleted by its owner."""
    file = await files_app.upload()
    await files_app.deliver_all()
    async with files_app.client() as client:
        await client.delete(f"/files/{file.id}")
    files_app.aws.take(files_app.aws.transfers_queue_url)
    return file


async def test_a_deleted_file_is_cleared_here_and_at_every_provider(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)

    for _ in range(2):
        await files_app.deliver(Message("file", file.id))

    assert at_provider(files_app, GENERAL) == at_provider(files_app, SPECIAL) == []
    assert len(files_app.provider.log(GENERAL.name, "files.delete")) == 1
    assert files_app.aws.keys() == []
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == []
        assert await tables.files.load(file.id) is None


async def test_a_file_that_was_not_deleted_is_not_cleared(files_app: FilesApp) -> None:
    file = await files_app.upload()
    await files_app.deliver_all()

    await files_app.deliver(Message("file", file.id))

    assert files_app.aws.keys() == [f"files/{file.id}"]
    assert len(at_provider(files_app, GENERAL)) == 1


async def test_a_deleted_file_stays_while_an_open_batch_needs_it(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)
    files_app.insert_batch("batch_1", file.id, "in_progress")
    await files_app.deliver(Message("file", file.id))
    assert len(at_provider(files_app, GENERAL)) == len(at_provider(files_app, SPECIAL)) == 1

    files_app.sql("UPDATE batches SET status = 'completed', due_at = NULL")
    files_app.age(16)
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [file.id]
    await files_app.deliver(Message("file", file.id))

    assert files_app.aws.keys() == []


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut"])
async def test_a_provider_that_does_not_answer_is_asked_again_by_the_sweep(files_app: FilesApp, kind: Any) -> None:
    file = await deleted_file(files_app)
    files_app.provider.fail(Fault(kind=kind, account=GENERAL.name, route="files.delete"))
    await files_app.deliver(Message("file", file.id))
    assert len(at_provider(files_app, GENERAL)) == 1
    assert at_provider(files_app, SPECIAL) == [], "one provider's fault keeps no other from it"

    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == []
    files_app.age(21)
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [file.id]
    await files_app.deliver(Message("file", file.id))

    assert at_provider(files_app, GENERAL) == []
    assert files_app.aws.keys() == []


async def test_a_purge_that_keeps_failing_is_tried_after_pauses_that_grow_and_starves_no_other(
    files_app: FilesApp,
) -> None:
    failing = await deleted_file(files_app)
    files_app.provider.fail(Fault(kind="error", account=GENERAL.name, route="files.delete", times=None))
    for _ in range(3):
        files_app.age(900)
        await files_app.deliver(Message("file", failing.id))
        await files_app.deliver(Message("file", failing.id))  # too early, so nothing happens
    assert len(files_app.provider.log(GENERAL.name, "files.delete")) == 3

    later = await deleted_file(files_app)
    files_app.age(19)
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [later.id]
    files_app.age(20)
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [later.id, failing.id]


async def test_a_delete_that_hangs_is_left_and_no_other_one_waits_there(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "DELETE_SECONDS", 0.2)
    files = [await deleted_file(files_app) for _ in range(3)]
    files_app.provider.fail(Fault(kind="delay", account=GENERAL.name, route="files.delete", seconds=2, times=None))
    purging = purge.Purge(files_app.gateway.store, files_app.gateway.storage, files_app.gateway.deployments)

    for file in files:
        await purging.run(file.id)

    assert len(files_app.provider.log(GENERAL.name, "files.delete")) == 1
    assert at_provider(files_app, SPECIAL) == []
    assert files_app.sql("SELECT DISTINCT attempts, due_at > now(), lease FROM files") == [(1, True, None)]


async def test_two_workers_purge_a_file_once_and_a_dead_ones_purge_is_another_ones(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)
    async with files_app.gateway.store.session() as tables:
        dead = await tables.files.claim_purge(file.id, "of-the-dead", LEASE_SECONDS)
    assert dead is not None
    await files_app.deliver(Message("file", file.id))
    assert files_app.provider.log(GENERAL.name, "files.delete") == []

    files_app.age(LEASE_SECONDS + 1)
    await asyncio.gather(*(files_app.deliver(Message("file", file.id)) for _ in range(2)))

    assert len(files_app.provider.log(GENERAL.name, "files.delete")) == 1
    async with files_app.gateway.store.session() as tables:
        assert not await tables.files.purged(dead)


async def test_a_provider_that_will_not_delete_keeps_nobody_from_it(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)
    files_app.provider.fail(Fault(kind="refuse", account=GENERAL.name, route="files.delete", status=403))

    await files_app.deliver(Message("file", file.id))

    assert at_provider(files_app, SPECIAL) == []
    assert files_app.aws.keys() == []


# -- the Lambda handler -----------------------------------------------------------------------------------------------


def test_the_handler_answers_which_messages_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def note(resource_id: str) -> None:
        seen.append(resource_id)

    monkeypatch.setattr(worker, "transfers", lambda: {"input": note, "job": note, "file": note})
    bodies = ['{"input": "input_1"}', "nonsense", '{"batch": "batch_1"}', '{"file": "file-1"}']
    event = {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]}

    answer = worker.handler(event, _Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}
    assert seen == ["input_1", "file-1"]


class _Context:
    function_name = "files-worker"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:files-worker"
    aws_request_id = "request-1"
