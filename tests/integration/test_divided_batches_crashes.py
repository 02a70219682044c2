"""A worker killed at each step of a batch of two shards: each is submitted once, and each request answered once."""

import asyncio
import json

from tests.support.crashes import at_every_step, killed_at
from tests.support.divided_batches import Start, assert_each_line_sent_once, request
from tests.support.system import ACCOUNTS, System

pytest_plugins = ("tests.support.divided_batches_fixtures",)

LINES = 2
SOON = 20
"""Half-minutes after which the batch has ended even if its worker crashed: leases and waits have expired."""


async def run_to_completion(system: System, batch_id: str) -> None:
    ended = await system.run_until_ended(batch_id, SOON)
    assert ended.status == "completed"
    content = b"".join(map(request, range(LINES)))
    assert len(assert_each_line_sent_once(system, batch_id, [json.loads(line) for line in content.splitlines()])) == 2
    assert system.select("SELECT requests FROM usage") == [{"requests": 1}] * 2
    answers = [json.loads(line) for line in system.content(str(ended.output_file_id)).splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["request-0", "request-1"]
    assert system.select("SELECT 1 FROM jobs WHERE state NOT IN ('settled', 'refused', 'absent')") == []


async def assert_no_copy_is_left(system: System) -> None:
    """Assert that the copies of shards go: that of an upload whose worker died, too, as an orphan."""
    for seconds in (60, 60, 7200, 60):
        system.age(seconds)
        system.provider.state.files.age(seconds)
        await system.run_schedule()
        await system.deliver_all()
    files = system.provider.state.files
    assert [file for account in ACCOUNTS for file in files.page(account, "batch")[0]] == []


async def test_a_worker_killed_between_any_two_steps(start: Start) -> None:
    system = start({"mini": {"max_batch_requests": 1}})

    async def scenario(step: int) -> bool:
        file = await system.upload(b"".join(map(request, range(LINES))))
        batch_id = (await system.create(file.id)).id
        died = await killed_at(system, step, lambda: system.run_until_ended(batch_id))
        await run_to_completion(system, batch_id)
        await assert_no_copy_is_left(system)
        return died

    assert await at_every_step(system, scenario) > 80


async def test_every_message_delivered_twice_at_once_and_two_pollers(start: Start) -> None:
    system = start({"mini": {"max_batch_requests": 1}})
    file = await system.upload(b"".join(map(request, range(LINES))))
    batch_id = (await system.create(file.id)).id
    for _ in range(20):
        waiting, system.queue.messages = system.queue.messages, []
        await asyncio.gather(*(system.deliver(message) for message in [*waiting, *waiting]))
        if not system.queue.messages:
            system.age(30)
            await asyncio.gather(system.run_schedule(), system.run_schedule())

    await run_to_completion(system, batch_id)
    await assert_no_copy_is_left(system)
