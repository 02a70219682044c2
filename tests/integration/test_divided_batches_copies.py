"""The copies of shards at the providers: uploaded elsewhere where one fails, and deleted once nobody needs them."""

from local.provider import Fault
from local.provider.files import File
from tests.support.divided_batches import Start, deployment_of, request, run_shards
from tests.support.system import ACCOUNTS, System

pytest_plugins = ("tests.support.divided_batches_fixtures",)

LIMITS = {one: {"max_batch_requests": 2} for one in ("general", "special", "mini")}


def copies(system: System) -> list[File]:
    files = system.provider.state.files
    return [file for account in ACCOUNTS for file in files.page(account, "batch")[0]]


async def create(system: System, requests: int = 5) -> str:
    """A batch that is divided into shards of two requests."""
    file = await system.upload(b"".join(map(request, range(requests))))
    return (await system.create(file.id)).id


async def stop(system: System, batch_id: str) -> None:
    """End a batch as an admin does."""
    async with system.gateway.store.session() as tables:
        assert await tables.batches.stop(batch_id, [])
        await tables.jobs.abandon(batch_id)


async def run_schedule(system: System, rounds: int = 5) -> None:
    """Let the schedule run, and a minute pass before each time."""
    for _ in range(rounds):
        system.age(60)
        await system.run_schedule()
        system.queue.messages = [message for message in system.queue.messages if message.kind != "join"]
        await system.deliver_all()


async def test_a_shard_whose_upload_is_refused_goes_to_another_deployment(start: Start) -> None:
    system = start(LIMITS)
    system.provider.fail(Fault(kind="refuse", account="openai", route="files.create", times=None))
    system.provider.fail(Fault(kind="error", account="azure-special", route="files.create", times=None))
    batch_id = await create(system, 9)

    await run_shards(system, batch_id)

    assert {deployment_of(job) for job in system.jobs_at_providers()} == {"general"}
    assert {row["outcome"] for row in system.select("SELECT outcome FROM shards")} == {"completed"}


async def test_a_shard_whose_submission_is_refused_is_uploaded_to_another_deployment(start: Start) -> None:
    system = start(LIMITS)
    system.provider.fail(Fault(kind="refuse", account="openai", route="batches.create", times=None))
    system.provider.fail(Fault(kind="rate_limit", account="azure-special", route="batches.create", times=None))
    batch_id = await create(system, 9)

    await run_shards(system, batch_id)

    assert {deployment_of(job) for job in system.jobs_at_providers()} == {"general"}
    assert {row["outcome"] for row in system.select("SELECT outcome FROM shards")} == {"completed"}


async def test_a_batch_whose_every_deployment_refuses_the_uploads_ends(start: Start) -> None:
    system = start(LIMITS)
    system.provider.fail(Fault(kind="refuse", route="files.create", times=None))
    batch_id = await create(system)

    await run_shards(system, batch_id)

    assert {row["outcome"] for row in system.select("SELECT outcome FROM shards")} == {"failed"}
    [shard] = system.select("SELECT errors FROM shards WHERE number = 0")
    assert {entry["code"] for entry in shard["errors"]} == {"deployments_refused"}
    assert "told to do this" in shard["errors"][0]["message"]


async def test_copies_are_deleted_once_the_batch_has_ended(start: Start) -> None:
    system = start(LIMITS)
    batch_id = await create(system)
    await run_shards(system, batch_id)
    assert len(copies(system)) == 3
    await stop(system, batch_id)
    system.provider.fail(Fault(kind="error", route="files.delete", times=4))

    await run_schedule(system)

    assert copies(system) == []
    assert system.select("SELECT DISTINCT state, due_at FROM inputs") == [{"state": "discarded", "due_at": None}]
    deletes = len(system.provider.log(route="files.delete"))
    await run_schedule(system)
    assert len(system.provider.log(route="files.delete")) == deletes == 3 + 4


async def test_a_batch_of_one_shard_that_is_above_every_limit_leaves_no_copy(start: Start) -> None:
    system = start({"general": {"max_enqueued_tokens": 1000}})
    system.provider.state.quotas.clear()
    file = await system.upload(request(1, "some words " * 1000))
    ended = await system.run_until_ended((await system.create(file.id)).id)
    assert ended.status == "completed"

    await run_schedule(system)

    assert copies(system) == []


async def test_uploads_that_wait_when_the_batch_ends_are_not_made(start: Start) -> None:
    system = start(LIMITS)
    batch_id = await create(system)
    for _ in range(3):  # plan, and a step of each shard
        waiting = [message for message in system.queue.messages if message.kind != "input"]
        system.queue.messages = [message for message in system.queue.messages if message.kind == "input"]
        for message in waiting:
            await system.deliver(message)
    assert len(system.select("SELECT 1 FROM inputs WHERE state = 'pending'")) == 3
    await stop(system, batch_id)

    await run_schedule(system)

    assert system.provider.log(route="files.create") == []
    assert system.select("SELECT DISTINCT state, due_at FROM inputs") == [{"state": "discarded", "due_at": None}]


async def test_an_upload_under_way_when_the_batch_ends_leaves_no_copy(start: Start) -> None:
    system = start(LIMITS)
    batch_id = await create(system, 3)
    while not system.select("SELECT 1 FROM inputs"):
        await system.deliver(system.queue.messages.pop(0))
    [first] = system.select("SELECT id FROM inputs")
    async with system.gateway.store.session() as tables:
        uploading = await tables.inputs.claim(first["id"], "of-an-upload", 60)
        assert uploading is not None
    await stop(system, batch_id)
    async with system.gateway.store.session() as tables:
        assert not await tables.inputs.ready(uploading, "file-that-came-late", None)

    await run_schedule(system)

    assert system.select("SELECT DISTINCT state FROM inputs") == [{"state": "discarded"}]


async def test_a_file_that_is_deleted_while_its_shards_run_stays_until_they_have_ended(start: Start) -> None:
    system = start(LIMITS)
    batch_id = await create(system)
    [file] = system.select("SELECT id FROM files")
    await system.call_files("DELETE", f"/files/{file['id']}")

    await run_shards(system, batch_id)

    assert f"files/{file['id']}" in system.stored()
    assert {row["outcome"] for row in system.select("SELECT outcome FROM shards")} == {"completed"}
    assert len(copies(system)) == 3


async def test_a_purge_deletes_the_copies_of_shards(start: Start) -> None:
    system = start(LIMITS)
    batch_id = await create(system)
    await run_shards(system, batch_id)
    await stop(system, batch_id)
    system.select("UPDATE inputs SET due_at = now() + interval '1 day' RETURNING id")  # before their own turn
    [file] = system.select("SELECT id FROM files WHERE purpose = 'batch'")

    await system.call_files("DELETE", f"/files/{file['id']}")
    await run_schedule(system, 2)

    assert copies(system) == []
    assert system.select(f"SELECT 1 FROM files WHERE id = '{file['id']}' AND purged_at IS NULL") == []
    assert system.select("SELECT DISTINCT state, due_at FROM inputs") == [{"state": "discarded", "due_at": None}]


async def test_an_old_batch_is_forgotten_with_its_shards_and_only_without_copies(start: Start) -> None:
    system = start(LIMITS)
    batch_id = await create(system)
    await run_shards(system, batch_id)
    await stop(system, batch_id)
    system.age(1000)
    async with system.gateway.store.session() as tables:
        assert await tables.retention.forget_batches(500, 10) == 0
    await run_schedule(system)

    async with system.gateway.store.session() as tables:
        assert await tables.spend.sum_up(100, every=0)
        assert await tables.retention.forget_batches(500, 10) == 1

    for table in ("batches", "shards", "jobs", "inputs"):
        assert system.select(f"SELECT 1 FROM {table}") == []
