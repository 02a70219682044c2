"""Old rows are deleted, their cost is kept, and nothing that is needed is deleted."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import cast

import psycopg
import pytest

from batches.sweep import Sweep
from manifold import ids
from manifold.access import Caller
from manifold.auth import key_hash
from manifold.queue import Queue
from manifold.store import Store, Tables
from manifold.store.batches import NewBatch, Outcome
from manifold.store.files import NewFile
from manifold.store.job_changes import JobEnd
from manifold.store.keys import Key
from tests.support.owners import spent_by_key
from tests.support.shards import plan_one

DAY = 86_400
HOLDER = Caller(key_id="key_spender")
COUNTS = dict.fromkeys(
    ["requests", "failed_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"], 1
)


def sql(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


async def spender(tables: Tables) -> None:
    await tables.keys.insert(Key(id="key_spender", token_hash=key_hash("sk-spender"), name="spender"))


async def ended(tables: Tables, outcome: Outcome = "completed", cost: Decimal = Decimal("0.25")) -> str:
    """A batch that ended, with an input, a job, an output file and usage."""
    file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), HOLDER)
    output = await tables.files.insert(NewFile(ids.new("file"), "batch_output", "out.jsonl", 1, ["group"]), HOLDER)
    new = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", ["group"], None, 1, None, DAY)
    await tables.batches.insert(new, HOLDER)
    batch = await tables.batch_leases.claim(new.id, "lease", 60)
    assert batch is not None
    [input_id] = await tables.inputs.ensure(file.id, ["deployment"])
    job = await tables.jobs.insert(ids.new("job"), await plan_one(tables, batch), input_id, "deployment")
    assert job is not None
    assert await tables.jobs.running(job, new.id)
    assert await tables.jobs.ended({job.id: JobEnd(outcome, None, None, None, None, [])})
    await tables.job_usage.record(batch, job, "group", COUNTS, cost)
    assert await tables.jobs.settled(job)
    assert await tables.batches.end(batch, outcome, output_file_id=output.id)
    return batch.id


OLD = """UPDATE batches SET
    completed_at = completed_at - interval '91 days', failed_at = failed_at - interval '91 days',
    expired_at = expired_at - interval '91 days', cancelled_at = cancelled_at - interval '91 days' WHERE id = '{0}';
    UPDATE usage SET created_at = created_at - interval '91 days' WHERE batch_id = '{0}'"""


@pytest.mark.parametrize("outcome", ["completed", "failed", "expired", "cancelled"])
async def test_a_batch_that_ended_long_ago_is_deleted_and_its_cost_is_kept(
    store: Store, database_url: str, outcome: Outcome
) -> None:
    async with store.session() as tables:
        await spender(tables)
        old, new = await ended(tables, outcome), await ended(tables, outcome)
        sql(database_url, OLD.format(old))

        assert await tables.retention.forget_batches(90 * DAY, 10) == 0  # its cost is in no sum yet
        assert await tables.spend.sum_up(10)
        assert [await tables.retention.forget_batches(90 * DAY, 10) for _ in range(2)] == [1, 0]

        assert sql(database_url, "SELECT id FROM batches") == [(new,)]
        assert sql(database_url, "SELECT DISTINCT batch_id FROM jobs") == [(new,)]
        assert await spent_by_key(tables, "key_spender") == Decimal("0.5")


async def test_a_batch_that_was_given_up_long_ago_is_deleted(store: Store, database_url: str) -> None:
    async with store.session() as tables:
        await spender(tables)
        batch_id = await ended(tables, "expired")
        sql(database_url, OLD.format(batch_id))
        sql(database_url, "UPDATE jobs SET state = 'abandoned', outcome = NULL")
        assert await tables.spend.sum_up(10)

        assert await tables.retention.forget_batches(90 * DAY, 10) == 1


async def test_an_open_batch_is_kept_however_old(store: Store, database_url: str) -> None:
    async with store.session() as tables:
        await spender(tables)
        batch_id = await ended(tables)
        sql(database_url, OLD.format(batch_id))
        sql(database_url, "UPDATE batches SET status = 'finalizing', due_at = now()")
        assert await tables.spend.sum_up(10)

        assert await tables.retention.forget_batches(90 * DAY, 10) == 0


async def test_a_batch_is_kept_until_its_event_is_sent_or_given_up(store: Store, database_url: str) -> None:
    """A retention of less than 72 hours drops no event."""
    async with store.session() as tables:
        await spender(tables)
        await tables.webhooks.insert("webhook_1", "https://example.com/", ["batch.completed"], None, "s", HOLDER, 10)
        batch_id = await ended(tables)
        sql(database_url, OLD.format(batch_id))
        assert await tables.spend.sum_up(10)

        assert await tables.retention.forget_batches(DAY, 10) == 0
        sql(database_url, "UPDATE deliveries SET status = 'failed', due_at = NULL")
        assert await tables.retention.forget_batches(DAY, 10) == 1


async def test_a_purged_file_is_deleted_when_no_batch_uses_it(store: Store, database_url: str) -> None:
    async with store.session() as tables:
        await spender(tables)
        batch_id = await ended(tables)
        sql(database_url, "UPDATE files SET deleted_at = now(), purged_at = now() - interval '91 days'")
        sql(database_url, "UPDATE inputs SET state = 'discarded', due_at = NULL")

        assert await tables.retention.forget_files(90 * DAY, 10) == 0
        sql(database_url, OLD.format(batch_id))
        assert await tables.spend.sum_up(10)
        assert await tables.retention.forget_batches(90 * DAY, 10) == 1
        assert await tables.retention.forget_files(90 * DAY, 10) == 2

    assert sql(database_url, "SELECT count(*) FROM inputs") == sql(database_url, "SELECT count(*) FROM files") == [(0,)]


@pytest.mark.parametrize(
    "needed",
    [
        "UPDATE files SET purged_at = NULL",
        "UPDATE files SET purged_at = now() - interval '89 days'",
        "UPDATE inputs SET doubtful_at = now()",
        "UPDATE inputs SET state = 'ready'",
        "UPDATE uploads SET due_at = now()",
        "UPDATE uploads SET status = 'pending'",
    ],
)
async def test_a_file_of_which_something_is_needed_is_kept(store: Store, database_url: str, needed: str) -> None:
    async with store.session() as tables:
        await spender(tables)
        file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), HOLDER)
        await tables.uploads.insert(ids.new("upload"), file.id, [])
        await tables.inputs.ensure(file.id, ["deployment"])
        sql(database_url, "UPDATE files SET deleted_at = now(), purged_at = now() - interval '91 days'")
        sql(database_url, "UPDATE inputs SET state = 'discarded', due_at = NULL")
        sql(database_url, "UPDATE uploads SET status = 'completed', due_at = NULL")
        sql(database_url, needed)

        assert await tables.retention.forget_files(90 * DAY, 10) == 0


async def test_two_sweeps_at_once_count_each_batch_once(store: Store, database_url: str) -> None:
    async with store.session() as tables:
        await spender(tables)
        for _ in range(12):
            sql(database_url, OLD.format(await ended(tables, cost=Decimal(1))))
    stores = [Store(lambda: database_url) for _ in range(3)]

    async def sweep(one: Store) -> int:
        async with one.session() as tables:
            await tables.spend.sum_up(5)
            await tables.spend.sum_up(10)
            gone = sum([await tables.retention.forget_batches(90 * DAY, 2) for _ in range(8)])
        await one.close()
        return gone

    assert sum(await asyncio.gather(*map(sweep, stores))) == 12
    async with store.session() as tables:
        assert await spent_by_key(tables, "key_spender") == 12


@pytest.mark.parametrize(("days", "kept"), [(90, 0), (None, 1)])
async def test_the_schedule_deletes_rows_older_than_configured(
    store: Store, database_url: str, days: int | None, kept: int
) -> None:
    async with store.session() as tables:
        await spender(tables)
        sql(database_url, OLD.format(await ended(tables)))

    await Sweep(store, cast(Queue, Deaf()), {}, None, None if days is None else timedelta(days=days)).run()

    assert sql(database_url, "SELECT count(*) FROM batches") == [(kept,)]


class Deaf:
    """A queue for a sweep whose messages are not used."""

    async def announce(self, *_: object, **__: object) -> None:
        pass
