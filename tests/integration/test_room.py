"""Room taken by many workers at once, what is believed of a quota, and the cost of a line."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from batches.rooms import take_room, wake_line, wake_lines
from manifold import ids
from manifold.access import Caller
from manifold.config import BatchLimits, Deployment
from manifold.store import Store, Tables
from manifold.store.batches import NewBatch
from manifold.store.files import NewFile
from manifold.store.job_changes import JobEnd
from manifold.store.jobs import JobRow
from manifold.store.rooms import _LINE, MOST_OF_OWNER
from manifold.store.shards import NewShard, ShardRow
from tests.support import postgres
from tests.support.deployments import deployment

pytest_plugins = ("tests.support.query_fixtures",)

TOKENS = 10
END = JobEnd("completed", None, None, None, None, ())
WORKERS = 20


def limited(**limits: int) -> Deployment:
    return replace(deployment("a"), limits=BatchLimits(**limits))


async def add_shards(tables: Tables, count: int, *, tokens: int = TOKENS, user: str | None = None) -> list[ShardRow]:
    """Batches of one user that each have one shard, whose lease is "mine"."""
    caller = Caller(admin=user is None, user_id=user)
    if user:
        await tables.users.ensure(user)
    file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), caller)
    rows = list[ShardRow]()
    for _ in range(count):
        new = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", ["group"], None, 1, None, 86_400)
        batch = await tables.batches.insert(new, caller)
        claimed = await tables.batch_leases.claim(batch.id, "mine", 60)
        assert claimed is not None
        rows += await tables.shards.plan(claimed, [NewShard(ids.new("shard"), 0, "", 1, 1, tokens)], "mine", 600)
    return rows


async def add_input(tables: Tables) -> str:
    file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), Caller(admin=True))
    [input_id] = await tables.inputs.ensure(file.id, ["a"])
    return input_id


async def take(tables: Tables, at: Deployment, shard: ShardRow, input_id: str) -> JobRow | None:
    """Take room for a shard, or have it stand in line."""
    if await take_room(tables, at, shard):
        return await tables.jobs.insert(ids.new("job"), shard, input_id, at.id)
    await tables.shards.note_waiting(shard, "room", [at.id])
    return None


async def end(tables: Tables, job: JobRow) -> None:
    assert await tables.jobs.running(job, f"ref-{job.id}")
    assert await tables.jobs.ended({job.id: END})


async def believed(tables: Tables) -> int | None:
    return (await tables.rooms.held(["a"]))["a"].believed_tokens


@pytest.mark.parametrize(
    ("limits", "at_once"),
    [({"enqueued_tokens": 75}, 7), ({"enqueued_requests": 5}, 5), ({"concurrent_batches": 3}, 3)],
)
async def test_twenty_workers_never_take_the_same_room(
    store: Store, database_url: str, limits: dict[str, int], at_once: int
) -> None:
    """Each worker has its own connection. Every shard gets its turn, and in the end nothing is held."""
    at = limited(**limits)
    async with store.transaction() as tables:
        waiting = await add_shards(tables, 60)
        input_id = await add_input(tables)
    highest, ended = 0, 0

    async with AsyncExitStack() as stack:
        stores = [Store(lambda: database_url) for _ in range(WORKERS)]
        for one in stores:
            stack.push_async_callback(one.close)

        async def attempt(number: int, shard: ShardRow) -> JobRow | None:
            async with stores[number % WORKERS].transaction() as tables:
                return await take(tables, at, shard, input_id)

        async def finish(number: int, job: JobRow) -> None:
            async with stores[number % WORKERS].transaction() as tables:
                await end(tables, job)
                await wake_line(tables, at)

        while waiting:
            jobs = await asyncio.gather(*(attempt(number, shard) for number, shard in enumerate(waiting)))
            running = [job for job in jobs if job is not None]
            highest = max(highest, len(running))
            assert running, "what waits is never left waiting at an idle deployment"
            waiting = [shard for shard, job in zip(waiting, jobs, strict=True) if job is None]
            await asyncio.gather(*(finish(number, job) for number, job in enumerate(running)))
            ended += len(running)

    assert (highest, ended) == (at_once, 60)
    async with store.session() as tables:
        held = (await tables.rooms.held(["a"]))["a"]
        assert (held.jobs, held.requests, held.tokens) == (0, 0, 0)
        assert await tables.rooms.line("a") == []


async def test_room_that_comes_free_wakes_those_that_may_take_it(store: Store) -> None:
    at = limited(enqueued_tokens=40)
    async with store.transaction() as tables:
        input_id = await add_input(tables)
        [running] = await add_shards(tables, 1, tokens=40)
        job = await take(tables, at, running, input_id)
        assert job is not None
        first, second, third = [(await add_shards(tables, 1, tokens=20, user=name))[0] for name in ("u", "v", "w")]
        for shard in (first, second, third):
            assert await take(tables, at, shard, input_id) is None
        assert await wake_line(tables, at) == []
        await end(tables, job)
        woken = await wake_line(tables, at)
        assert len(woken) == 2
        assert len(await wake_lines(tables, ["a"])) == 3, "where the limits are unknown, the first in line look"


async def test_an_owner_that_had_no_turn_goes_before_one_that_had(store: Store) -> None:
    """A deployment for one job at a time: the owner of three shards gets its second turn after the other's first."""
    at, waiting = limited(concurrent_batches=1), list[tuple[str, ShardRow]]()
    for user in ("many", "many", "many", "few"):
        async with store.transaction() as tables:
            [shard] = await add_shards(tables, 1, user=user)
            waiting.append((user, shard))
    turns = []
    async with store.session() as tables:
        input_id = await add_input(tables)
        while waiting:
            for one in list(waiting):
                if job := await take(tables, at, one[1], input_id):
                    turns.append(one[0])
                    waiting.remove(one)
                    running = job
            await end(tables, running)
    assert turns == ["many", "few", "many", "many"]


class TestBelief:
    """The deployment has no configured limit; jobs have `TOKENS` each."""

    async def run(self, tables: Tables, count: int) -> list[JobRow]:
        input_id = await add_input(tables)
        jobs = [
            await tables.jobs.insert(ids.new("job"), shard, input_id, "a") for shard in await add_shards(tables, count)
        ]
        return [job for job in jobs if job]

    async def test_a_refusal_leaves_what_the_others_hold(self, store: Store) -> None:
        async with store.transaction() as tables:
            *_, refused = await self.run(tables, 5)
            await tables.rooms.grow("a", [TOKENS])
            assert await believed(tables) is None, "without a refusal nothing is believed"
            await tables.rooms.shrink("a", without=refused.id)
            assert await believed(tables) == 4 * TOKENS

    async def test_a_refusal_by_an_idle_deployment_leaves_half_of_the_job(self, store: Store) -> None:
        async with store.transaction() as tables:
            [refused] = await self.run(tables, 1)
            await tables.rooms.shrink("a", without=refused.id)
            assert await believed(tables) == TOKENS // 2

    async def test_a_refusal_never_gives_more_room(self, store: Store) -> None:
        async with store.transaction() as tables:
            first, second = await self.run(tables, 2)
            await tables.rooms.shrink("a", without=first.id)
            await tables.jobs.refused(first, "full", status=429, lasting=False, cooldown=0)
            await tables.rooms.shrink("a", without=second.id)
            assert await believed(tables) == TOKENS // 2

    async def test_a_job_that_completes_gives_a_quarter_of_it_and_only_where_room_was_short(self, store: Store) -> None:
        """Four jobs of ten tokens are open: another one fits from 50 on."""
        async with store.transaction() as tables:
            *_, refused = await self.run(tables, 5)
            await tables.rooms.shrink("a", without=refused.id)
            await tables.jobs.refused(refused, "full", status=429, lasting=False, cooldown=0)
            grown = []
            for _ in range(6):
                await tables.rooms.grow("a", [TOKENS])
                grown.append(await believed(tables))
        assert grown == [43, 46, 49, 52, 52, 52]


async def test_without_a_limit_a_submit_needs_one_statement_for_room(store: Store, queries: list[str]) -> None:
    async with store.session() as tables:
        queries.clear()
        assert await wake_line(tables, deployment("a")) == []
        assert len(queries) == 1


async def test_a_line_of_a_thousand_is_read_without_those_that_have_ended(store: Store, database_url: str) -> None:
    async with store.transaction() as tables:
        await add_shards(tables, 1)
    own = postgres.connection(database_url)
    own.execute(
        """INSERT INTO shards (id, batch_id, number, requests, bytes, tokens, state, outcome, due_at, waiting_since,
               line_at)
           SELECT 'ended-' || n, (SELECT min(id) FROM batches), n, 1, 1, 1, 'ended', 'completed', NULL::timestamptz,
               NULL::timestamptz, '{}'::text[] FROM generate_series(1, 20000) n
           UNION ALL
           SELECT 'waiting-' || n, (SELECT min(id) FROM batches), 100000 + n, 1, 1, 1, 'waiting', NULL, now(), now(),
               '{a}' FROM generate_series(1, 1000) n"""
    )
    own.execute("ANALYZE shards")
    own.execute("ANALYZE jobs")
    plan = own.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {_LINE}", {"deployment": "a", "shard": "none"}).fetchone()
    assert plan is not None
    text = json.dumps(plan[0])
    assert '"Relation Name": "shards"' in text
    assert "Seq Scan" not in re.findall(r'"Node Type": "([^"]+)"[^{}]*"Relation Name": "shards"', text)
    async with store.session() as tables:
        line = await tables.rooms.line("a")
    assert [shard.id for shard in line] == [f"waiting-{number}" for number in range(1, MOST_OF_OWNER + 1)]
