"""Purge: a deleted file is deleted in the bucket and at each provider."""

import asyncio
from typing import Any

import pytest

from files.transfers import copies
from files.transfers.copies import Copies
from files.transfers.lease import LEASE_SECONDS
from files.transfers.purge import Purge
from local.provider import Fault
from manifold.queue import Message
from manifold.schemas import File
from manifold.store.inputs import InputRow
from tests.support.files_app import GENERAL, SPECIAL, FilesApp
from tests.support.transfers import files_at_provider

pytest_plugins = ("tests.support.files_app_fixtures",)


async def deleted_file(files_app: FilesApp) -> File:
    """A file that both deployments have, deleted by its owner."""
    file = await files_app.upload()
    await files_app.deliver_all()
    async with files_app.client() as client:
        await client.delete(f"/files/{file.id}")
    files_app.aws.take(files_app.aws.transfers_queue_url)
    return file


async def test_a_deleted_file_is_deleted_in_the_bucket_and_at_every_provider(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)

    for _ in range(2):
        await files_app.deliver(Message("file", file.id))

    assert files_at_provider(files_app, GENERAL) == files_at_provider(files_app, SPECIAL) == []
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
    assert len(files_at_provider(files_app, GENERAL)) == 1


async def test_a_deleted_file_stays_while_an_open_batch_needs_it(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)
    files_app.insert_batch("batch_1", file.id, "in_progress")
    await files_app.deliver(Message("file", file.id))
    assert len(files_at_provider(files_app, GENERAL)) == len(files_at_provider(files_app, SPECIAL)) == 1

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
    assert len(files_at_provider(files_app, GENERAL)) == 1
    assert files_at_provider(files_app, SPECIAL) == [], "one provider's fault keeps no other from it"

    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == []
    files_app.age(21)
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [file.id]
    await files_app.deliver(Message("file", file.id))

    assert files_at_provider(files_app, GENERAL) == []
    assert files_app.aws.keys() == []


async def test_a_purge_that_keeps_failing_is_retried_with_growing_pauses_and_blocks_no_other(
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


async def test_a_delete_that_hangs_is_given_up_and_blocks_no_other(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "DELETE_SECONDS", 0.2)
    files = [await deleted_file(files_app) for _ in range(3)]
    files_app.provider.fail(Fault(kind="delay", account=GENERAL.name, route="files.delete", seconds=2, times=None))
    purging = Purge(files_app.gateway.store, files_app.gateway.storage, files_app.gateway.deployments)

    for file in files:
        await purging.run(file.id)

    assert len(files_app.provider.log(GENERAL.name, "files.delete")) == 1
    assert files_at_provider(files_app, SPECIAL) == []
    assert files_app.sql("SELECT DISTINCT attempts, due_at > now(), lease FROM files") == [(1, True, None)]


async def test_two_workers_purge_a_file_once_and_a_crashed_workers_purge_is_taken_over(files_app: FilesApp) -> None:
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


async def test_a_copy_that_comes_during_the_purge_is_deleted_by_the_next_attempt(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await files_app.upload()
    pending = (await files_app.inputs(file.id))["special"]
    async with files_app.gateway.store.session() as tables:
        uploading = await tables.inputs.claim(pending.id, "of-an-upload", LEASE_SECONDS)
    assert uploading is not None
    async with files_app.client() as client:
        await client.delete(f"/files/{file.id}")
    delete_copy = Copies._delete

    async def upload_ends_first(self: Copies, row: InputRow) -> None:
        await delete_copy(self, row)
        if row.deployment_id == "special" and row.state == "pending":
            async with files_app.gateway.store.session() as tables:
                assert await tables.inputs.ready(uploading, "file-that-came-late", None)

    monkeypatch.setattr(Copies, "_delete", upload_ends_first)
    await files_app.deliver(Message("file", file.id))
    assert files_app.sql("SELECT purged_at FROM files") == [(None,)]

    files_app.age(6)
    await files_app.deliver(Message("file", file.id))

    assert len(files_app.provider.log(SPECIAL.name, "files.delete")) == 1
    assert await files_app.inputs(file.id) == {}


async def test_a_provider_that_refuses_to_delete_does_not_stop_the_purge(files_app: FilesApp) -> None:
    file = await deleted_file(files_app)
    files_app.provider.fail(Fault(kind="refuse", account=GENERAL.name, route="files.delete", status=403))

    await files_app.deliver(Message("file", file.id))

    assert files_at_provider(files_app, SPECIAL) == []
    assert files_app.aws.keys() == []
