"""Own execution under crashes, repeated messages and several workers: what is paid, and what comes out."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from batches.execution.result_writer import WRITTEN_TOGETHER
from batches.sweep import Sweep
from local.provider import Latency
from manifold.config import Deployment
from manifold.execution.pace import WORKER_CALLS
from manifold.providers.completion_provider import ProviderRequest
from manifold.queue import Message
from manifold.store.chunks import ChunkProgress
from tests.support.crashes import at_every_step, killed_at
from tests.support.own_execution import ACCOUNT, GROUP, assert_complete, calls, created
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.own_execution",)

LINES = 5


async def test_a_worker_killed_between_any_two_steps(own: System) -> None:
    async def scenario(step: int) -> bool:
        batch_id = await created(own, chat_lines(GROUP, LINES))
        died = await killed_at(own, step, lambda: own.run_until_ended(batch_id))
        assert_complete(own, await own.run_until_ended(batch_id), LINES)
        assert len(own.select("SELECT 1 FROM usage")) == 1
        assert len(calls(own)) <= 2 * LINES, "each call is repeated once at most"
        return died

    assert await at_every_step(own, scenario) > 40


async def test_a_killed_worker_repeats_only_what_was_under_way_or_not_written(own: System) -> None:
    """Killed amid 300 calls: all that was answered before the last write is not called again."""
    own.provider.state.set_latency(ACCOUNT, Latency(answer=0.02))
    batch_id = await created(own, chat_lines(GROUP, 300))
    completions = Watched(own)
    died = await killed_at(own, 450, own.deliver_all)
    assert died
    before = completions.counts()
    assert 0 < sum(before.values()) < 300
    own.age(60)
    again = Watched(own)
    assert_complete(own, await own.run_until_ended(batch_id), 300)
    repeated = [prompt for prompt in again.counts() if prompt in before]
    # Those under way, a write's, and what comes while a slow machine writes.
    assert len(repeated) <= completions.most + WRITTEN_TOGETHER + WORKER_CALLS


async def test_workers_of_one_deployment_keep_its_limit_together(own: System) -> None:
    own.provider.state.set_latency(ACCOUNT, Latency(answer=0.1))
    batch_id = await created(own, chat_lines("wide", 800))
    await own.step(batch_id)
    await own.step(batch_id)
    watched = Watched(own)
    chunks = own.select("SELECT id FROM chunks WHERE due_at IS NOT NULL ORDER BY number")
    assert len(chunks) == 4
    executions = [own.chunk_execution() for _ in chunks]
    runs = [one.run(chunk["id"]) for one, chunk in zip(executions, chunks, strict=True)]
    await asyncio.gather(*runs)
    assert 64 < watched.most <= 200
    assert_complete(own, await own.run_until_ended(batch_id), 800, "wide")


async def test_owners_take_turns(own: System) -> None:
    """A small batch of another owner is not behind the chunks of a large one."""
    large = await created(own, chat_lines("one-by-one", 3000))
    await own.step(large)
    await own.step(large)
    own.select("UPDATE chunks SET owner = 'user:large' RETURNING id")
    own.select("UPDATE chunk_turns SET owner = 'user:large' RETURNING owner")
    small = await created(own, chat_lines("one-by-one", 10))
    await own.step(small)
    await own.step(small)
    [first] = own.select("SELECT id FROM chunks WHERE due_at IS NOT NULL")
    async with own.gateway.store.transaction() as tables:
        chunk = await tables.chunks.claim(first["id"], "lease", 30)
        assert chunk is not None
        await tables.chunks.end(chunk, ChunkProgress())
        [following] = await tables.chunks.activate(chunk.deployment_id, 1)
    [row] = own.select(f"SELECT requests FROM chunks WHERE id = '{following}'")
    assert row["requests"] == 10


async def test_lost_messages_are_sent_again(own: System) -> None:
    batch_id = await created(own, chat_lines(GROUP, LINES))
    for _ in range(12):
        own.queue.messages.clear()
        own.age(60)
        await own.run_schedule()
        waiting, own.queue.messages = own.queue.messages, []
        await deliver(own, waiting)
    assert_complete(own, await own.run_until_ended(batch_id), LINES)
    assert len(calls(own)) == LINES


async def test_places_of_chunks_that_ended_without_a_worker_are_filled_by_the_schedule(own: System) -> None:
    cancelled, waiting = [await created(own, chat_lines("wide", lines)) for lines in (150, 800)]
    for batch_id in (cancelled, waiting):
        await own.step(batch_id)
        await own.step(batch_id)
    assert due_of(own, cancelled) == 3
    assert due_of(own, waiting) == 1
    await own.cancel(cancelled)
    await own.step(cancelled)
    assert own.select("SELECT state FROM chunks WHERE state = 'ended'") == [{"state": "ended"}] * 3
    own.queue.messages.clear()
    await own.run_schedule()
    assert due_of(own, waiting) == 4
    assert [message.kind for message in own.queue.messages].count("chunk") == 3
    assert_complete(own, await own.run_until_ended(waiting), 800, "wide")


async def test_a_deployment_that_is_gone_from_the_configuration_has_one_place(own: System) -> None:
    batch_id = await created(own, chat_lines("wide", 800))
    await own.step(batch_id)
    await own.step(batch_id)
    own.select("UPDATE chunks SET due_at = NULL RETURNING id")
    for _ in range(2):
        await Sweep(own.gateway.store, own.queue, {}, None).run()
        assert due_of(own, batch_id) == 1


def due_of(system: System, batch_id: str) -> int:
    """How many chunks of a batch are due."""
    query = f"""SELECT count(*) FROM chunks JOIN jobs ON jobs.id = job_id
        WHERE batch_id = '{batch_id}' AND chunks.due_at IS NOT NULL"""
    [row] = system.select(query)
    return int(row["count"])


async def deliver(system: System, messages: Sequence[Message]) -> None:
    for message in messages:
        await system.deliver(message)


class Watched:
    """Counts the completions of a system, and how many are under way at once."""

    def __init__(self, system: System) -> None:
        self.most = 0
        self._under_way = 0
        self._prompts = list[str]()
        complete = system.gateway.deployments.complete

        async def watch(deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
            self._prompts.append(request.body["messages"][-1]["content"])
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            try:
                return await complete(deployment, request)
            finally:
                self._under_way -= 1

        system.gateway.deployments.complete = watch  # type: ignore[method-assign]

    def counts(self) -> Counter[str]:
        return Counter(self._prompts)
