"""Replication: each deployment gets a batch's input once, whatever fails on the way."""

import asyncio
import json
from typing import Any

import pytest

from files.transfers import lease
from files.transfers.lease import LEASE_SECONDS
from files.transfers.retry_policy import ATTEMPTS, LASTING_ATTEMPTS
from local.provider import Account, Fault
from manifold.providers import BatchProvider, Endpoint, Prepared
from manifold.queue import Message
from manifold.schemas import File
from tests.support.files_app import GENERAL, SPECIAL, FilesApp
from tests.support.provider import chat_lines
from tests.support.transfers import files_at_provider, one_input

pytest_plugins = ("tests.support.files_app_fixtures",)


MODELS = {GENERAL.name: "general-deployment", SPECIAL.name: "special-model"}


def uploads(files_app: FilesApp, account: Account) -> list[dict[str, Any]]:
    """The log of the uploads that the provider kept."""
    return [entry for entry in files_app.provider.log(account.name, "files.create") if "file_id" in entry]


async def state(files_app: FilesApp, file: File, deployment: str = "mini") -> tuple[str, str | None]:
    row = (await files_app.inputs(file.id))[deployment]
    return row.state, row.error


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

    assert files_app.control_messages() == ["shard_batch_waits"]


async def test_a_repeated_message_does_nothing(files_app: FilesApp) -> None:
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


async def wait_until(files_app: FilesApp, condition: str) -> None:
    while not (await asyncio.to_thread(files_app.sql, f"SELECT 1 FROM inputs WHERE {condition}")):
        pass


async def test_a_lease_is_kept_while_bytes_flow_so_that_a_message_that_comes_again_does_nothing(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    file, message = await one_input(files_app)
    files_app.provider.fail(Fault(kind="delay", route="files.create", seconds=1))
    working = asyncio.create_task(files_app.deliver(message))
    await wait_until(files_app, "lease IS NOT NULL")

    files_app.age(LEASE_SECONDS - 1)
    await wait_until(files_app, f"leased_until > now() + interval '{LEASE_SECONDS - 1} seconds'")
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
    await wait_until(files_app, "lease IS NOT NULL")

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


async def test_retry_after_is_respected(files_app: FilesApp) -> None:
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
async def test_a_provider_that_never_accepts_the_file_fails_the_input_and_notifies_the_batches(
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
    assert woken == [["shard_batch_waits"], *[[]] * (attempts - 2), ["shard_batch_waits"]]
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


async def test_a_crashed_workers_input_is_taken_over_when_its_lease_expires(files_app: FilesApp) -> None:
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


async def test_an_outage_of_the_storage_postpones_the_input(files_app: FilesApp) -> None:
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


async def test_an_input_that_arrives_after_the_purge_is_deleted(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, message = await one_input(files_app)
    call = files_app.gateway.deployments.call

    async def purge_meanwhile(deployment: Any, request: Any, **more: Any) -> Any:
        async def and_purge(provider: BatchProvider, at: Endpoint) -> Prepared:
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
    assert files_at_provider(files_app, SPECIAL) == []
    assert files_app.aws.keys() == []
