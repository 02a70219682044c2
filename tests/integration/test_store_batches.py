"""Leases, wakes and transitions of batches and jobs, each on its own."""

import time
from decimal import Decimal

import pytest
from psycopg.errors import UniqueViolation

from manifold import ids
from manifold.access import Caller
from manifold.limits import LimitedHolder, Limits
from manifold.storable import MOST_OF_A_BATCH
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, NewBatch, Outcome
from manifold.store.files import NewFile
from manifold.store.job_changes import JobEnd, JobPoll
from manifold.store.jobs import JobRow
from manifold.store.keys import Key
from manifold.store.shards import Counts, NewShard, ShardRow
from tests.support.shards import plan_one

ADMIN = Caller(admin=True)


async def new_batch(tables: Tables, caller: Caller = ADMIN, total: int = 1) -> BatchRow:
    file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), ADMIN)
    batch = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", ["group"], None, total, None, 86_400)
    return await tables.batches.insert(batch, caller)


async def claimed(tables: Tables, batch: BatchRow, lease: str = "mine") -> BatchRow:
    row = await tables.batch_leases.claim(batch.id, lease, 60)
    assert row is not None
    return row


async def new_job(tables: Tables, batch: BatchRow, shard: ShardRow | None = None) -> JobRow:
    shard = shard or await plan_one(tables, batch, 10)
    [input_id] = await tables.inputs.ensure(batch.input_file_id, ["deployment"])
    job = await tables.jobs.insert(ids.new("job"), shard, input_id, "deployment")
    assert job is not None
    return job


async def open_job(tables: Tables, job: JobRow) -> JobRow:
    assert job.shard_id is not None
    return (await tables.jobs.open([job.shard_id]))[job.shard_id]


async def status(tables: Tables, batch: BatchRow) -> str:
    row = await tables.batches.get(batch.id, ADMIN)
    assert row is not None
    return row.status


async def test_only_one_holds_the_lease(store: Store) -> None:
    async with store.session() as tables:
        batch = await new_batch(tables)
        await claimed(tables, batch)
        assert await tables.batch_leases.claim(batch.id, "other", 60) is None


async def test_a_lease_that_ran_out_is_taken_over(store: Store) -> None:
    async with store.session() as tables:
        batch = await new_batch(tables)
        assert await tables.batch_leases.claim(batch.id, "dead", 0)
        first = await claimed(tables, batch, "alive")
        assert not await tables.batches.end(first._replace(lease="dead"), "failed")
        assert await tables.batches.end(first, "failed")


async def test_a_batch_that_is_not_due_is_not_claimed(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        assert not await tables.batch_leases.release(batch, 30)
        assert await tables.batch_leases.claim(batch.id, "other", 60) is None
        assert await tables.batch_leases.wake(batch.id)
        assert await tables.batch_leases.claim(batch.id, "other", 60)


async def test_a_wake_that_meets_a_held_lease_is_seen_at_its_release(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        await tables.batch_leases.wake(batch.id)
        assert await tables.batch_leases.release(batch, 300)
        assert await tables.batch_leases.claim(batch.id, "other", 60)


async def test_a_wake_of_a_transaction_that_began_before_the_lease_is_seen_at_its_release(
    store: Store, database_url: str
) -> None:
    """The wake is committed with other changes, which the holder of the lease has not seen."""
    other = Store(lambda: database_url)
    async with store.session() as tables:
        batch = await new_batch(tables)
    async with other.transaction() as elsewhere:
        await status(elsewhere, batch)
        async with store.session() as tables:
            batch = await claimed(tables, batch)
        await elsewhere.batch_leases.wake(batch.id)
    async with store.session() as tables:
        assert await tables.batch_leases.release(batch, 300)
    await other.close()


async def test_a_cancelled_batch_takes_no_job(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        shard = await plan_one(tables, batch, 10)
        [input_id] = await tables.inputs.ensure(batch.input_file_id, ["deployment"])
        await tables.batches.cancel(batch.id, ADMIN)
        assert await tables.jobs.insert(ids.new("job"), shard, input_id, "deployment") is None


async def test_a_second_open_job_cannot_be_written(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        shard = await plan_one(tables, batch, 10)
        job = await new_job(tables, batch, shard)
        assert await tables.jobs.insert(ids.new("job"), shard, job.input_id, "deployment") is None
        with pytest.raises(UniqueViolation):
            await tables.connection.execute(
                "INSERT INTO jobs (id, batch_id, shard_id, input_id, deployment_id) VALUES (%s, %s, %s, %s, 'other')",
                (ids.new("job"), batch.id, shard.id, job.input_id),
            )


async def test_a_batch_with_an_open_job_does_not_end(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        await new_job(tables, batch)
        await tables.batches.cancel(batch.id, ADMIN)
        assert not await tables.batches.end(batch, "cancelled")


async def test_the_providers_id_brings_back_a_cancel_that_came_meanwhile(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        job = await new_job(tables, batch)
        await tables.batches.cancel(batch.id, ADMIN)
        assert await tables.jobs.running(job, "ref")
        assert await tables.batches.started(batch.id) == "cancelling"


@pytest.mark.parametrize("outcome", ["cancelled", "completed", "failed", "expired"])
async def test_a_late_poll_does_not_reopen_a_job(store: Store, outcome: Outcome) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        job = await new_job(tables, batch)
        await tables.jobs.running(job, "ref")
        await tables.batches.started(batch.id)
        await tables.jobs.ended({job.id: JobEnd(outcome, None, None, None, None, ())})
        await tables.jobs.settled(job)
        assert await tables.batches.end(batch, outcome)

        await tables.shards.progress([Counts(job.shard_id or "", 9, 9, 9)])
        await tables.batches.finalizing([batch.id])
        assert await tables.batches.started(batch.id) is None
        assert not await tables.batch_leases.wake(batch.id)
        assert not await tables.shard_leases.wake_batch(batch.id)
        assert not await tables.shard_leases.wake_stale(batch.id, 0)
        assert await tables.batches.cancel(batch.id, ADMIN) is None
        assert not await tables.jobs.running(job, "ref")
        assert not await tables.jobs.ended({job.id: JobEnd("completed", "o", None, "file-1", None, ())})
        assert await status(tables, batch) == outcome


async def test_counts_never_go_down(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables, total=10))
        shard = await plan_one(tables, batch, 10)
        await tables.shards.progress([Counts(shard.id, 10, 7, 1)])
        await tables.shards.progress([Counts(shard.id, 10, 5, 0)])
        row = await tables.batches.get(batch.id, ADMIN)
    assert row is not None
    assert (row.total, row.completed, row.failed) == (10, 7, 1)


@pytest.mark.parametrize(
    ("reported", "stored"),
    [
        ((10, 4, 3), (10, 4, 3)),
        ((10, 3, 1), (10, 3, 1)),
        ((10, 0, 4), (10, 0, 4)),
        ((10, 2, 1), (10, 4, 0)),
        ((10, 10, 1), (10, 9, 1)),
        ((10, 11, 0), (10, 10, 0)),
        ((10, 0, 11), (10, 0, 10)),
        ((10, -1, 5), (10, 0, 5)),
        ((10, 2**63, 2**63), (10, 0, 10)),
        ((2, 1, 1), (10, 4, 0)),
        ((20, 5, 0), (20, 5, 0)),
    ],
)
async def test_counts_are_one_set_that_never_exceeds_the_total(
    store: Store, reported: tuple[int, int, int], stored: tuple[int, int, int]
) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables, total=10))
        shard = await plan_one(tables, batch, 10)
        await tables.shards.progress([Counts(shard.id, 10, 4, 0)])
        await tables.shards.progress([Counts(shard.id, *reported)])
        row = await tables.batches.get(batch.id, ADMIN)
    assert row is not None
    assert (row.total, row.completed, row.failed) == stored


async def test_a_premature_end_is_counted_from_when_it_was_first_reported(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        job = await new_job(tables, batch)
        assert await tables.jobs.running(job, "ref")
        await tables.jobs.polled([JobPoll(job.id)])
        await tables.jobs.polled([JobPoll(job.id, premature=True)])
        first = await open_job(tables, job)
        await tables.jobs.polled([JobPoll(job.id, answered=False)])
        await tables.jobs.polled([JobPoll(job.id, premature=True)])
        second = await open_job(tables, job)
        await tables.jobs.polled([JobPoll(job.id)])
        going_on = await open_job(tables, job)
    assert first.polls == 0
    assert first.end_seen_for is not None
    assert second.end_seen_for is not None
    assert second.end_seen_for >= first.end_seen_for
    assert going_on.end_seen_for is None


async def test_usage_is_written_once_a_job(store: Store) -> None:
    counts = dict.fromkeys(
        ("requests", "failed_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 1
    )
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        job = await new_job(tables, batch)
        await tables.job_usage.record(batch, job, "group", counts, None)
        with pytest.raises(UniqueViolation):
            await tables.job_usage.record(batch, job, "group", counts, None)


async def test_a_batch_counts_against_the_budget_of_its_key(store: Store) -> None:
    counts = dict.fromkeys(
        ("requests", "failed_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 1
    )
    one = LimitedHolder("key", "key_of_batches", Limits(max_budget=Decimal(1)))
    async with store.session() as tables:
        await tables.keys.insert(Key(id=one.id, token_hash="hash", name="name", max_budget=Decimal(1)))
        batch = await claimed(tables, await new_batch(tables, Caller(key_id=one.id)))
        assert [status.spent for status in await tables.meters.admit([one], 1, "lease", 60)] == [0]

        await tables.job_usage.record(batch, await new_job(tables, batch), "group", counts, Decimal("1.5"))

        [status] = await tables.meters.admit([one], 1, "lease", 60)
        assert (status.spent, status.reached) == (Decimal("1.5"), ["max_budget"])
        assert await tables.spend.of("key", one.id) == Decimal("1.5")


async def test_a_copy_that_lives_for_an_hour_is_not_made_again_at_once(store: Store) -> None:
    async with store.session() as tables:
        batch = await new_batch(tables)
        [input_id] = await tables.inputs.ensure(batch.input_file_id, ["deployment"])
        row = await tables.inputs.claim(input_id, "mine", 60)
        assert row is not None
        assert await tables.inputs.ready(row, "file-there", int(time.time()) + 3600)

        assert await tables.inputs.ensure(batch.input_file_id, ["deployment"]) == []


async def test_what_a_provider_reports_of_its_job_is_stored_as_far_as_it_can_be(store: Store) -> None:
    error = {"code": "nul\0", "message": "half a pair \ud83d", "line": 2**70}
    end = JobEnd("failed", "ref", None, ids.new("file"), None, [error])
    counts = {
        "requests": 2**63,
        "failed_requests": -1,
        "input_tokens": 2**80,
        "cached_tokens": 0,
        "output_tokens": 6 * 10**9,
        "reasoning_tokens": 0,
    }
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        job = await new_job(tables, batch)
        assert await tables.jobs.unknown(job, "nul\0")
        assert await tables.jobs.running(job, "ref")
        assert await tables.jobs.ended({job.id: end})
        await tables.job_usage.record(batch, job, "group", counts, None)
        [ended] = await tables.jobs.of_batch(batch.id)
        row = await tables.batches.get(batch.id, ADMIN)

    assert ended.errors == [{"code": "nul�", "message": "half a pair �", "line": 2**70}]
    assert row is not None
    assert row.usage is not None
    assert (row.usage["input_tokens"], row.usage["output_tokens"]) == (MOST_OF_A_BATCH, 6 * 10**9)


async def test_a_job_that_old_code_writes_gives_its_batch_the_one_shard(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        [input_id] = await tables.inputs.ensure(batch.input_file_id, ["deployment"])
        await tables.connection.execute(
            "INSERT INTO jobs (id, batch_id, input_id, deployment_id) VALUES ('job_old', %s, %s, 'deployment')",
            (batch.id, input_id),
        )

        [shard] = await tables.shards.of_batch(batch.id)
        assert shard.state == "running"
        [job] = await tables.jobs.of_shard(shard.id)
        assert job.id == "job_old"
        assert await tables.shards.plan(batch, [NewShard(ids.new("shard"), 0, "", 1, 1, 1)], "mine", 60) == []


async def test_an_upload_under_way_at_the_end_of_its_batch_leaves_a_suspected_orphan(store: Store) -> None:
    async with store.session() as tables:
        batch = await claimed(tables, await new_batch(tables))
        shard = await plan_one(tables, batch)
        input_id = await tables.inputs.ensure_for_shard(shard.id, "deployment")
        assert input_id is not None
        assert await tables.inputs.claim(input_id, "a worker that dies", 60)

        assert await tables.batches.stop(batch.id, [])

        cursor = await tables.connection.execute("SELECT doubtful_at IS NOT NULL, attempts FROM inputs")
        assert await cursor.fetchall() == [(True, 0)]
