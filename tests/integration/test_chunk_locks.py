"""Two that change several chunks at once wait for each other, and neither is ended by Postgres for a deadlock or misses
what the other wrote: rows are locked in the order of their ids."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from manifold.store import Store, Tables
from manifold.store.chunks import NewChunk
from tests.support import postgres
from tests.support.own_execution import created
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.own_execution",)

Change = Callable[[Tables, str], Awaitable[object]]


@pytest.fixture
async def job(own: System) -> str:
    """A job (its id) of three chunks, of which the last one of the file has the lowest id. All are to stop."""
    batch_id = await created(own, chat_lines("wide", 150))
    await own.step(batch_id)
    await own.step(batch_id)
    own.select("UPDATE chunks SET id = 'chunk_' || 3 - number, owner = 'key:' || 3 - number RETURNING id")
    own.select("UPDATE batches SET status = 'cancelling' RETURNING id")
    [row] = own.select("SELECT id FROM jobs")
    return str(row["id"])


async def _stop(tables: Tables, job_id: str) -> None:
    await tables.chunks.stop(job_id)


async def _stopped(tables: Tables, job_id: str) -> None:
    assert len(await tables.chunks.stopped([job_id])) == 3


async def _end_untouched(tables: Tables, job_id: str) -> None:
    await tables.chunks.end_untouched([job_id])


async def _abandon(tables: Tables, job_id: str) -> None:
    cursor = await tables.connection.execute("SELECT batch_id FROM jobs WHERE id = %s", (job_id,))
    [(batch_id,)] = await cursor.fetchall()
    assert await tables.jobs.abandon(batch_id)


async def _activate(tables: Tables, _: str) -> None:
    await tables.connection.execute("UPDATE chunks SET due_at = NULL")
    assert len(await tables.chunks.activate("wide", 3)) == 3


@pytest.mark.parametrize("change", [_stop, _stopped, _end_untouched, _abandon])
async def test_chunks_are_locked_by_their_ids(store: Store, database_url: str, job: str, change: Change) -> None:
    await _assert_locked_in_order(store, database_url, job, change, "SELECT id FROM chunks WHERE id = 'chunk_{}'")


async def test_the_turns_of_owners_are_locked_in_order(store: Store, database_url: str, job: str) -> None:
    async with store.session() as tables:
        await _activate(tables, job)
    query = "SELECT owner FROM chunk_turns WHERE owner = 'key:{}'"
    await _assert_locked_in_order(store, database_url, job, _activate, query)


async def test_chunks_that_are_written_while_their_batch_is_ended_are_ended_too(
    own: System, store: Store, database_url: str, job: str
) -> None:
    [first, *_] = own.select("SELECT file_id, start, bytes, skip, requests FROM chunks")
    own.select("DELETE FROM chunks RETURNING id")
    own.select("UPDATE jobs SET state = 'submitting' RETURNING id")

    async def end() -> None:
        async with store.transaction() as tables:
            await _abandon(tables, job)

    async with own.gateway.store.transaction() as tables:
        assert await tables.chunks.plan(job, [NewChunk("chunk_1", 0, **first)])
        assert await tables.chunks.activate("wide", 4) == ["chunk_1"]
        ending = asyncio.create_task(end())
        await _waits_for_a_lock(database_url)
    await ending
    assert own.select("SELECT state, due_at FROM chunks") == [{"state": "ended", "due_at": None}]


async def _assert_locked_in_order(store: Store, database_url: str, job_id: str, change: Change, query: str) -> None:
    """While it waits for the first of three rows, the change has locked none of the others."""

    async def run() -> None:
        async with store.session() as tables:
            await change(tables, job_id)

    with psycopg.connect(database_url) as holder:
        holder.execute(query.format(1).encode() + b" FOR UPDATE")
        running = asyncio.create_task(run())
        await _waits_for_a_lock(database_url)
        for number in (2, 3):
            holder.execute(query.format(number).encode() + b" FOR UPDATE NOWAIT")
    await running


async def _waits_for_a_lock(database_url: str) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while postgres.connection(database_url).execute(waiting).fetchone() is None:  # noqa: ASYNC110 (Postgres is asked)
            await asyncio.sleep(0.01)
