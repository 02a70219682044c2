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
from tests.support.desk import GENERAL, SPECIAL, Desk
from tests.support.provider import chat_lines

pytest_plugins = ("tests.support.desk_fixtures",)

MODELS = {GENERAL.name: "general-deployment", SPECIAL.name: "special-model"}


def uploads(desk: Desk, account: Account) -> list[dict[str, Any]]:
    """What the provider got, as far as it kept it."""
    return [entry for entry in desk.simulator.log(account.name, "files.create") if "file_id" in entry]


def at_provider(desk: Desk, account: Account) -> list[str]:
    """The names of the files that the account has there now."""
    return [file.name for file in desk.simulator.world.files._files.values() if file.account == account.name]


async def one_input(desk: Desk) -> tuple[File, Message]:
    """A file with one input, and the message that asks for it."""
    file = await desk.upload(chat_lines("mini-batch", 3), target_model_names="mini-batch")
    (message,) = desk.aws.take(desk.aws.transfers_queue_url)
    return file, message


async def state(desk: Desk, file: File, deployment: str = "mini") -> tuple[str, str | None]:
    row = (await desk.inputs(file.id))[deployment]
    return row.state, row.error


# -- inputs -----------------------------------------------------------------------------------------------------------


async def test_every_deployment_gets_the_file_with_its_own_model_in_it(desk: Desk) -> None:
    content = chat_lines("gpt-batch", 50)
    file = await desk.upload(content)
    await desk.work_off()

    inputs = await desk.inputs(file.id)
    for account, deployment in ((GENERAL, "general"), (SPECIAL, "special")):
        (entry,) = uploads(desk, account)
        assert entry["models"] == (MODELS[account.name],)
        assert entry["lines"] == 50
        assert entry["file_name"] == f"{inputs[deployment].id}.jsonl"
        assert (inputs[deployment].state, inputs[deployment].provider_ref) == ("ready", entry["file_id"])
        assert inputs[deployment].expires_at is not None
        stored = desk.simulator.world.files.get(account.name, entry["file_id"]).path.read_bytes()
        assert stored == content.replace(b'"gpt-batch"', json.dumps(MODELS[account.name]).encode())
    assert {one.state for one in (await desk.file(file.id)).inputs or ()} == {"ready"}


async def test_the_batches_that_wait_for_an_input_are_woken(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.batch("batch_waits", file.id)
    desk.batch("batch_runs", file.id, "in_progress")

    await desk.work(message)

    assert desk.woken() == ["batch_waits"]


async def test_a_message_that_comes_again_does_nothing(desk: Desk) -> None:
    _, message = await one_input(desk)

    for _ in range(3):
        await desk.work(message)

    assert len(uploads(desk, SPECIAL)) == 1


async def test_two_workers_with_the_same_message_make_one_copy(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.simulator.fail(Fault(kind="delay", route="files.create", seconds=0.2))

    await asyncio.gather(*(desk.work(message) for _ in range(3)))

    assert len(uploads(desk, SPECIAL)) == 1
    assert await state(desk, file) == ("ready", None)


async def until(desk: Desk, condition: str) -> None:
    while not (await asyncio.to_thread(desk.sql, f"SELECT 1 FROM inputs WHERE {condition}")):
        pass


async def test_a_lease_is_kept_while_bytes_flow_so_that_a_message_that_comes_again_does_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    file, message = await one_input(desk)
    desk.simulator.fail(Fault(kind="delay", route="files.create", seconds=1))
    working = asyncio.create_task(desk.work(message))
    await until(desk, "lease IS NOT NULL")

    desk.age(LEASE_SECONDS - 1)
    await until(desk, f"leased_until > now() + interval '{LEASE_SECONDS - 1} seconds'")
    desk.age(LEASE_SECONDS - 1)
    await desk.work(message)
    await working

    assert len(uploads(desk, SPECIAL)) == 1
    assert await state(desk, file) == ("ready", None)


async def test_a_worker_that_lost_its_lease_stops(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    file, message = await one_input(desk)
    desk.simulator.fail(Fault(kind="delay", route="files.create", seconds=60))
    working = asyncio.create_task(desk.work(message))
    await until(desk, "lease IS NOT NULL")

    desk.sql("UPDATE inputs SET lease = 'another', leased_until = now() + interval '1 minute'")
    await working

    assert await state(desk, file) == ("pending", None)
    assert desk.sql("SELECT lease FROM inputs") == [("another",)]


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut", "garbage"])
async def test_a_provider_that_fails_three_times_gets_the_file_at_the_fourth(desk: Desk, kind: Any) -> None:
    file, message = await one_input(desk)
    desk.simulator.fail(Fault(kind=kind, route="files.create", times=3))

    for attempt in range(3):
        await desk.work(message)
        assert (await state(desk, file))[0] == "pending"
        assert desk.aws.delayed(desk.aws.transfers_queue_url) == attempt + 1
        await desk.work(message)  # too early, so nothing happens
        desk.age(901)
    await desk.work(message)

    assert await state(desk, file) == ("ready", None)
    assert len(desk.simulator.log(SPECIAL.name, "files.create")) == 4


async def test_retry_after_is_obeyed(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.simulator.fail(Fault(kind="rate_limit", route="files.create", retry_after="120"))
    await desk.work(message)

    desk.age(115)
    await desk.work(message)
    assert (await state(desk, file))[0] == "pending"

    desk.age(6)
    await desk.work(message)
    assert (await state(desk, file))[0] == "ready"


async def test_one_deployment_down_holds_up_no_other(desk: Desk) -> None:
    file = await desk.upload()
    desk.simulator.fail(Fault(kind="error", account=GENERAL.name, times=None))

    await desk.work_off()

    states = {one.deployment: one.state for one in (await desk.file(file.id)).inputs or ()}
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
    desk: Desk, kind: Any, attempts: int, shown: str
) -> None:
    file, message = await one_input(desk)
    desk.batch("batch_waits", file.id)
    desk.simulator.fail(Fault(kind=kind, route="files.create", times=None, message="internal-host-17 says no"))

    woken = []
    for _ in range(attempts):
        assert (await state(desk, file))[0] == "pending"
        await desk.work(message)
        woken.append(desk.woken())
        desk.age(901)

    assert len(desk.simulator.log(SPECIAL.name, "files.create")) == attempts
    assert await state(desk, file) == ("failed", shown)
    assert woken == [["batch_waits"], *[[]] * (attempts - 2), ["batch_waits"]]
    assert [(one.state, one.error) for one in (await desk.file(file.id)).inputs or ()] == [("failed", shown)]


async def test_an_input_whose_workers_died_each_time_is_given_up(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.sql("UPDATE inputs SET attempts = %s", ATTEMPTS)

    await desk.work(message)

    assert await state(desk, file) == ("failed", "The transfer broke off too often.")
    assert uploads(desk, SPECIAL) == []


async def test_an_input_of_a_deployment_that_is_gone_fails(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.sql("UPDATE inputs SET deployment_id = 'gone'")

    await desk.work(message)

    assert (await state(desk, file, "gone"))[0] == "failed"
    assert [(one.deployment, one.model) for one in (await desk.file(file.id)).inputs or ()] == [("gone", None)]


async def test_a_dead_workers_input_is_taken_over_when_its_lease_is_over(desk: Desk) -> None:
    file, message = await one_input(desk)
    async with desk.gateway.store.session() as tables:
        assert await tables.inputs.claim(message.id, "of-the-dead", LEASE_SECONDS)

    await desk.work(message)
    assert (await state(desk, file))[0] == "pending"

    desk.age(LEASE_SECONDS + 16)
    async with desk.gateway.store.session() as tables:
        assert await tables.inputs.due(10) == [message.id]
    await desk.work(message)
    assert (await state(desk, file))[0] == "ready"


async def test_our_own_storage_being_down_puts_the_input_off(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.aws.s3.delete_object(Bucket=desk.aws.environment["MANIFOLD_BUCKET"], Key=f"files/{file.id}")

    await desk.work(message)

    assert await state(desk, file) == ("pending", "The file storage did not answer. Try again shortly.")
    assert uploads(desk, SPECIAL) == []


async def test_a_deleted_file_goes_to_no_provider(desk: Desk) -> None:
    file, message = await one_input(desk)
    async with desk.client() as client:
        await client.delete(f"/files/{file.id}")

    await desk.work(message)

    assert uploads(desk, SPECIAL) == []
    assert await desk.inputs(file.id) == {}


async def test_a_deleted_file_that_an_open_batch_needs_still_goes(desk: Desk) -> None:
    file, message = await one_input(desk)
    desk.batch("batch_waits", file.id)
    async with desk.client() as client:
        await client.delete(f"/files/{file.id}")

    await desk.work(message)

    assert await state(desk, file) == ("ready", None)


async def test_a_copy_that_arrives_after_the_purge_is_taken_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    file, message = await one_input(desk)
    call = desk.gateway.deployments.call

    async def purge_meanwhile(deployment: Any, request: Any, **more: Any) -> Any:
        async def and_purge(provider: Provider, at: Endpoint) -> Prepared:
            made: Prepared = await request(provider, at)
            monkeypatch.setattr(desk.gateway.deployments, "call", call)
            async with desk.client() as client:
                await client.delete(f"/files/{file.id}")
            await desk.work(Message("file", file.id))
            return made

        return await call(deployment, and_purge, **more)

    monkeypatch.setattr(desk.gateway.deployments, "call", purge_meanwhile)
    await desk.work(message)

    assert len(uploads(desk, SPECIAL)) == 1
    assert at_provider(desk, SPECIAL) == []
    assert desk.aws.keys() == []


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


async def ended_job(desk: Desk, output: bytes | None = OUTPUT, errors: bytes | None = ERRORS) -> str:
    """A job that its provider has ended with these results."""
    file, _ = await one_input(desk)
    desk.batch("batch_1", file.id, "finalizing")
    refs = [None if content is None else result(desk, content) for content in (output, errors)]
    row = (await desk.inputs(file.id))["mini"]
    desk.sql(
        """INSERT INTO jobs (id, batch_id, input_id, deployment_id, state, provider_ref, outcome, due_at,
               output_ref, output_file_id, error_ref, error_file_id)
           VALUES ('job_1', 'batch_1', %s, 'mini', 'ended', 'ref', 'completed', now(),
               %s, 'file-out', %s, 'file-err')""",
        row.id,
        *refs,
    )
    desk.aws.s3.delete_object(Bucket=desk.aws.environment["MANIFOLD_BUCKET"], Key=f"files/{file.id}")
    return "job_1"


def result(desk: Desk, content: bytes) -> str:
    """A result file at the provider."""
    if not content:
        return desk.simulator.world.files.empty(SPECIAL.name).id
    with desk.simulator.world.files.result(SPECIAL.name, "output.jsonl") as made:
        made.write(content)
    assert made.file_id is not None
    return made.file_id


def job(desk: Desk) -> tuple[str, Mapping[str, Any] | None]:
    ((found, results),) = desk.sql("SELECT state, results FROM jobs WHERE id = 'job_1'")
    return found, results


async def test_results_are_stored_and_counted_and_the_batch_is_woken(desk: Desk) -> None:
    await desk.work(Message("job", await ended_job(desk)))

    assert desk.aws.read("files/file-out") == OUTPUT
    assert desk.aws.read("files/file-err") == ERRORS
    output, error = {"bytes": len(OUTPUT), "lines": 3}, {"bytes": len(ERRORS), "lines": 1}
    assert job(desk) == ("stored", {"output": output, "error": error, "usage": COUNTED})
    assert desk.woken() == ["batch_1"]


@pytest.mark.parametrize("errors", [None, b""])
async def test_an_empty_error_file_is_none(desk: Desk, errors: bytes | None) -> None:
    await desk.work(Message("job", await ended_job(desk, errors=errors)))

    results = job(desk)[1]
    assert results is not None
    assert results["error"] is None
    assert desk.aws.keys() == ["files/file-out"]


async def test_large_results_arrive_whole(desk: Desk) -> None:
    output = OUTPUT * 40_000

    await desk.work(Message("job", await ended_job(desk, output)))

    assert desk.aws.read("files/file-out") == output
    results = job(desk)[1]
    assert results is not None
    assert results["output"] == {"bytes": len(output), "lines": 120_000}
    assert results["usage"]["input_tokens"] == 120_000 * 7


async def test_a_results_message_that_comes_again_or_twice_at_once_stores_them_once(desk: Desk) -> None:
    message = Message("job", await ended_job(desk))

    await asyncio.gather(desk.work(message), desk.work(message))
    await desk.work(message)

    assert len(desk.simulator.log(SPECIAL.name, "files.content")) == 2
    assert desk.woken() == ["batch_1"]


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut"])
async def test_results_that_break_off_are_fetched_again_from_the_start(desk: Desk, kind: Any) -> None:
    message = Message("job", await ended_job(desk))
    desk.simulator.fail(Fault(kind=kind, route="files.content", times=3))

    for _ in range(3):
        await desk.work(message)
        assert job(desk) == ("ended", None)
        desk.age(901)
    await desk.work(message)

    assert desk.aws.read("files/file-out") == OUTPUT
    assert job(desk)[0] == "stored"


async def test_results_are_waited_for_while_the_provider_is_down_however_long(desk: Desk) -> None:
    message = Message("job", await ended_job(desk))
    desk.simulator.fail(Fault(kind="error", route="files.content", times=None))

    for _ in range(2 * ATTEMPTS):
        await desk.work(message)
        desk.age(901)

    assert job(desk) == ("ended", None)


async def test_results_that_the_provider_has_lost_are_given_up(desk: Desk) -> None:
    message = Message("job", await ended_job(desk))
    desk.simulator.world.files.clear()

    for _ in range(LASTING_ATTEMPTS):
        await desk.work(message)
        desk.age(901)

    found, results = job(desk)
    assert found == "stored"
    assert results is not None
    assert (results["output"], results["error"]) == (None, None)
    assert results["lost"] == "The provider answered HTTP 404: No such File object: ***"
    assert desk.woken() == ["batch_1"]


async def test_results_of_a_deployment_that_is_gone_wait_for_it_to_come_back(desk: Desk) -> None:
    message = Message("job", await ended_job(desk))
    desk.sql("UPDATE jobs SET deployment_id = 'gone'")
    await desk.work(message)
    assert job(desk)[0] == "ended"

    desk.sql("UPDATE jobs SET deployment_id = 'mini'")
    desk.age(301)
    await desk.work(message)

    assert job(desk)[0] == "stored"


# -- deleted files ----------------------------------------------------------------------------------------------------


async def deleted_file(desk: Desk) -> File:
    """A file that both deployments have, deleted by its owner."""
    file = await desk.upload()
    await desk.work_off()
    async with desk.client() as client:
        await client.delete(f"/files/{file.id}")
    desk.aws.take(desk.aws.transfers_queue_url)
    return file


async def test_a_deleted_file_is_cleared_here_and_at_every_provider(desk: Desk) -> None:
    file = await deleted_file(desk)

    for _ in range(2):
        await desk.work(Message("file", file.id))

    assert at_provider(desk, GENERAL) == at_provider(desk, SPECIAL) == []
    assert len(desk.simulator.log(GENERAL.name, "files.delete")) == 1
    assert desk.aws.keys() == []
    async with desk.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == []
        assert await tables.files.load(file.id) is None


async def test_a_file_that_was_not_deleted_is_not_cleared(desk: Desk) -> None:
    file = await desk.upload()
    await desk.work_off()

    await desk.work(Message("file", file.id))

    assert desk.aws.keys() == [f"files/{file.id}"]
    assert len(at_provider(desk, GENERAL)) == 1


async def test_a_deleted_file_stays_while_an_open_batch_needs_it(desk: Desk) -> None:
    file = await deleted_file(desk)
    desk.batch("batch_1", file.id, "in_progress")
    await desk.work(Message("file", file.id))
    assert len(at_provider(desk, GENERAL)) == len(at_provider(desk, SPECIAL)) == 1

    desk.sql("UPDATE batches SET status = 'completed', due_at = NULL")
    desk.age(16)
    async with desk.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [file.id]
    await desk.work(Message("file", file.id))

    assert desk.aws.keys() == []


@pytest.mark.parametrize("kind", ["error", "rate_limit", "cut"])
async def test_a_provider_that_does_not_answer_is_asked_again_by_the_sweep(desk: Desk, kind: Any) -> None:
    file = await deleted_file(desk)
    desk.simulator.fail(Fault(kind=kind, account=GENERAL.name, route="files.delete"))
    await desk.work(Message("file", file.id))
    assert len(at_provider(desk, GENERAL)) == 1
    assert at_provider(desk, SPECIAL) == [], "one provider's fault keeps no other from it"

    async with desk.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == []
    desk.age(21)
    async with desk.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [file.id]
    await desk.work(Message("file", file.id))

    assert at_provider(desk, GENERAL) == []
    assert desk.aws.keys() == []


async def test_a_purge_that_keeps_failing_is_tried_after_pauses_that_grow_and_starves_no_other(desk: Desk) -> None:
    failing = await deleted_file(desk)
    desk.simulator.fail(Fault(kind="error", account=GENERAL.name, route="files.delete", times=None))
    for _ in range(3):
        desk.age(900)
        await desk.work(Message("file", failing.id))
        await desk.work(Message("file", failing.id))  # too early, so nothing happens
    assert len(desk.simulator.log(GENERAL.name, "files.delete")) == 3

    later = await deleted_file(desk)
    desk.age(19)
    async with desk.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [later.id]
    desk.age(20)
    async with desk.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [later.id, failing.id]


async def test_a_delete_that_hangs_is_left_and_no_other_one_waits_there(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "DELETE_SECONDS", 0.2)
    files = [await deleted_file(desk) for _ in range(3)]
    desk.simulator.fail(Fault(kind="delay", account=GENERAL.name, route="files.delete", seconds=2, times=None))
    purging = purge.Purge(desk.gateway.store, desk.gateway.storage, desk.gateway.deployments)

    for file in files:
        await purging.run(file.id)

    assert len(desk.simulator.log(GENERAL.name, "files.delete")) == 1
    assert at_provider(desk, SPECIAL) == []
    assert desk.sql("SELECT DISTINCT attempts, due_at > now(), lease FROM files") == [(1, True, None)]


async def test_two_workers_purge_a_file_once_and_a_dead_ones_purge_is_another_ones(desk: Desk) -> None:
    file = await deleted_file(desk)
    async with desk.gateway.store.session() as tables:
        dead = await tables.files.claim_purge(file.id, "of-the-dead", LEASE_SECONDS)
    assert dead is not None
    await desk.work(Message("file", file.id))
    assert desk.simulator.log(GENERAL.name, "files.delete") == []

    desk.age(LEASE_SECONDS + 1)
    await asyncio.gather(*(desk.work(Message("file", file.id)) for _ in range(2)))

    assert len(desk.simulator.log(GENERAL.name, "files.delete")) == 1
    async with desk.gateway.store.session() as tables:
        assert not await tables.files.purged(dead)


async def test_a_provider_that_will_not_delete_keeps_nobody_from_it(desk: Desk) -> None:
    file = await deleted_file(desk)
    desk.simulator.fail(Fault(kind="refuse", account=GENERAL.name, route="files.delete", status=403))

    await desk.work(Message("file", file.id))

    assert at_provider(desk, SPECIAL) == []
    assert desk.aws.keys() == []


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
