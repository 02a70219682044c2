"""Two that change a batch's shards at once wait for each other, and neither is ended by Postgres for a deadlock: rows
are locked in the order rooms, jobs, batches, shards."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from batches.selection import Candidate
from batches.settlement import Settlement
from batches.shard_end import end_shard, wake_if_last
from batches.submission import Submission
from manifold import ids
from manifold.access import Caller
from manifold.errors import ProviderRefused
from manifold.gateway import Gateway
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, NewBatch
from manifold.store.files import NewFile
from manifold.store.job_changes import JobEnd
from manifold.store.jobs import JobRow
from manifold.store.shards import Counts, NewShard, ShardRow, Shards
from tests.support import postgres
from tests.support.system import CrashPoints, InMemoryQueue

ADMIN = Caller(admin=True)
NO_USAGE = dict.fromkeys(
    ("requests", "failed_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 0
)


@dataclass(frozen=True)
class Running:
    """A batch of two shards, each leased as "mine" and with a job whose results are stored."""

    batch: BatchRow
    shards: list[ShardRow]
    jobs: list[JobRow]


@pytest.fixture
async def other_store(database_url: str) -> AsyncIterator[Store]:
    """Another environment's."""
    opened = Store(lambda: database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def running(store: Store) -> Running:
    async with store.session() as tables:
        file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), ADMIN)
        new = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", ["group"], None, 20, None, 86_400)
        await tables.batches.insert(new, ADMIN)
        batch = await tables.batch_leases.claim(new.id, "mine", 60)
        assert batch is not None
        planned = [NewShard(ids.new("shard"), number, f"{number}0-{number}9", 10, 1, 1) for number in (0, 1)]
        first, second = await tables.shards.plan(batch, planned, "mine", 60)
        claimed = await tables.shard_leases.claim(second.id, "mine", 60)
        assert claimed is not None
        shards, jobs = [first, claimed], []
        assert not any(shard.alone for shard in shards)
        [input_id] = await tables.inputs.ensure(file.id, ["deployment"])
        for shard in shards:
            job = await tables.jobs.insert(ids.new("job"), shard, input_id, "deployment")
            assert job is not None
            jobs.append(job)
            assert await tables.jobs.running(job, f"ref-{job.id}")
        await tables.batches.started(batch.id)
        await tables.jobs.ended({job.id: JobEnd("completed", None, None, None, None, []) for job in jobs})
        return Running(batch, shards, jobs)


async def settle(tables: Tables, running: Running, number: int) -> None:
    shard = running.shards[number]
    await tables.shards.progress([Counts(shard.id, 10, 10, 0)])
    assert await tables.jobs.settled(running.jobs[number])
    assert await tables.shards.end(shard, "completed")
    assert await wake_if_last(tables, running.batch)


async def test_two_jobs_of_a_batch_are_settled_at_once(store: Store, other_store: Store, running: Running) -> None:
    recorded = asyncio.Barrier(2)

    async def settle_one(store: Store, number: int) -> None:
        async with store.transaction() as tables:
            await tables.job_usage.record(running.batch, running.jobs[number], "group", NO_USAGE, None)
            await recorded.wait()
            await settle(tables, running, number)

    await asyncio.gather(settle_one(store, 0), settle_one(other_store, 1))

    async with store.session() as tables:
        row = (await tables.batches.of([running.batch.id]))[running.batch.id]
        assert (row.status, row.completed) == ("finalizing", 20)
        assert await tables.batch_leases.release(running.batch, 300), "the last of the two has woken it"


async def _poll(tables: Tables, running: Running) -> None:
    await tables.shards.progress([Counts(shard.id, 10, 5, 0) for shard in running.shards])


async def _end_waiting(tables: Tables, running: Running) -> None:
    assert await end_shard(tables, running.batch, running.shards[0], "cancelled")


@pytest.mark.parametrize("work", [_poll, _end_waiting])
async def test_a_batch_is_cancelled_while_its_shards_change(
    store: Store,
    other_store: Store,
    running: Running,
    database_url: str,
    work: Callable[[Tables, Running], Awaitable[None]],
) -> None:
    if work is _end_waiting:
        async with store.session() as tables:
            assert await tables.jobs.settled(running.jobs[0])

    async def change() -> None:
        async with other_store.transaction() as tables:
            await work(tables, running)

    async with asyncio.TaskGroup() as tasks, store.transaction() as tables:
        assert await tables.batches.cancel(running.batch.id, ADMIN)
        tasks.create_task(change())
        await waits_for_a_lock(database_url)
        assert len(await tables.shard_leases.wake_batch(running.batch.id)) == 2


async def test_a_batch_is_cancelled_while_a_shard_whose_counts_are_known_is_settled(
    store: Store, other_store: Store, running: Running, database_url: str
) -> None:
    shard = running.shards[0]
    async with store.session() as tables:
        [job] = await tables.jobs.of_shard(shard.id)
    settlement = Settlement(other_store, InMemoryQueue(CrashPoints()))

    async with asyncio.TaskGroup() as tasks, store.transaction() as tables:
        assert await tables.batches.cancel(running.batch.id, ADMIN)
        settled = tasks.create_task(settlement.settle(running.batch, shard, job, None))
        await waits_for_a_lock(database_url)
        assert len(await tables.shard_leases.wake_batch(running.batch.id)) == 2

    assert settled.result()


async def test_a_batch_is_cancelled_while_a_refused_shard_hands_on_its_room(
    gateway: Gateway,
    store: Store,
    other_store: Store,
    running: Running,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment = next(iter(gateway.config.by_id.values()))
    (_, waiting), (job, refused) = sorted(zip(running.jobs, running.shards, strict=True), key=lambda one: one[1].id)
    async with store.session() as tables:
        await tables.connection.execute("UPDATE jobs SET state = 'submitting', outcome = NULL WHERE id = %s", (job.id,))
        await tables.connection.execute("UPDATE jobs SET state = 'refused', outcome = NULL WHERE id <> %s", (job.id,))
        assert await tables.shards.wait(waiting)
        await tables.shards.note_waiting(waiting, "room", [deployment.id])
    wait, cancelling = Shards.wait, list[asyncio.Task[None]]()

    async def cancel() -> None:
        async with store.transaction() as tables:
            assert await tables.batches.cancel(running.batch.id, ADMIN)
            assert len(await tables.shard_leases.wake_batch(running.batch.id)) == 2

    async def wait_then_cancel(shards: Shards, shard: ShardRow) -> bool:
        changed = await wait(shards, shard)
        cancelling.append(asyncio.create_task(cancel()))
        await waits_for_a_lock(database_url)
        return changed

    monkeypatch.setattr(Shards, "wait", wait_then_cancel)
    submission = Submission(other_store, InMemoryQueue(CrashPoints()), gateway.deployments, lambda: gateway.storage)

    await submission._refused(refused, job, Candidate(deployment, None), ProviderRefused("busy"))

    [task] = cancelling
    await task


async def waits_for_a_lock(database_url: str) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while postgres.connection(database_url).execute(waiting).fetchone() is None:  # noqa: ASYNC110 (Postgres is asked)
            await asyncio.sleep(0.01)
