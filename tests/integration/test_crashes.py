"""Deaths, duplicates and races: however a batch is disturbed, one job at a provider, one output, one usage record."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from local.provider import Fault
from local.provider.oddities import Oddities
from manifold.queue import Message
from tests.support.provider import chat_lines
from tests.support.world import ENDED, Killed, World

pytest_plugins = ("tests.support.world_fixtures",)

GROUP = "gpt-4.1-mini-batch"  # one deployment: a second job could not hide at another
LINES = 2


def check(world: World, batch_id: str) -> None:
    """What holds for a completed batch, whatever happened on the way."""
    assert len(world.jobs_at_providers()) == 1
    assert len(world.rows("SELECT * FROM usage")) == 1
    [usage] = world.rows("SELECT requests, failed_requests FROM usage")
    assert usage == {"requests": LINES, "failed_requests": 0}
    [output] = world.rows("SELECT id FROM files WHERE purpose = 'batch_output' AND deleted_at IS NULL")
    assert len(world.content(output["id"]).splitlines()) == LINES
    assert world.rows("SELECT 1 FROM jobs WHERE state NOT IN ('settled', 'refused', 'absent')") == []
    assert world.rows("SELECT 1 FROM inputs WHERE state <> 'ready'") == []


SOON = 12
"""Half-minutes after which also a batch has ended whose worker died: a lease and a doubt are gone by then."""


async def to_the_end(world: World, batch_id: str) -> None:
    ended = await world.run_until_ended(batch_id, SOON)
    assert ended.status == "completed"
    check(world, batch_id)


async def started(world: World) -> str:
    """A batch whose messages wait in the mailbox."""
    file = await world.upload(chat_lines(GROUP, LINES))
    return (await world.create(file.id)).id


async def killed_at(world: World, step: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Whether the work got as far as this step, where its environment died; another one stands ready."""
    world.steps.taken.clear()
    world.steps.kill_at = step
    try:
        await work()
    except Killed:
        await world.restart()
        return True
    world.steps.kill_at = None
    return False


async def at_every_step(world: World, scenario: Callable[[int], Awaitable[bool]]) -> int:
    """Play the scenario with a death at its first step, at its second, … until it ends alive; returns the deaths."""
    for step in count(1):
        await world.reset()
        try:
            died = await scenario(step)
        except BaseException as error:
            error.add_note(f"after a death at step {step}: {world.died_at}")
            raise
        if not died:
            return step - 1
    raise AssertionError


async def test_a_worker_killed_between_any_two_steps(world: World) -> None:
    async def scenario(step: int) -> bool:
        batch_id = await started(world)
        died = await killed_at(world, step, lambda: world.run_until_ended(batch_id))
        await to_the_end(world, batch_id)
        return died

    assert await at_every_step(world, scenario) > 40


async def test_a_worker_killed_while_the_end_and_the_results_are_in_doubt(world: World) -> None:
    async def scenario(step: int) -> bool:
        world.provider.world.batches.oddities["openai"] = Oddities(unnamed=1)
        world.provider.fail(Fault(kind="truncate", route="files.content", framing="chunked", ranges=False))
        batch_id = await started(world)
        died = await killed_at(world, step, lambda: world.run_until_ended(batch_id))
        await to_the_end(world, batch_id)
        return died

    assert await at_every_step(world, scenario) > 60


async def test_a_worker_killed_while_results_that_stay_wrong_are_kept(world: World) -> None:
    async def scenario(step: int) -> bool:
        world.provider.world.batches.oddities["openai"] = Oddities(missing=1)
        batch_id = await started(world)
        for _ in range(3):
            await world.deliver_all()
            world.age(6)
            await world.run_schedule()
        world.age(1800)
        died = await killed_at(world, step, lambda: world.run_until_ended(batch_id))
        ended = await world.run_until_ended(batch_id, rounds=80)
        assert ended.errors is not None
        assert {error.code for error in ended.errors.data} == {"results_incomplete"}
        assert world.rows("SELECT requests FROM usage") == [{"requests": LINES - 1}]
        assert len(world.content(str(ended.output_file_id)).splitlines()) == LINES - 1
        return died

    assert await at_every_step(world, scenario) > 10


async def test_a_create_killed_between_any_two_steps_is_found_by_its_retry(world: World) -> None:
    async def scenario(step: int) -> bool:
        file = await world.upload(chat_lines(GROUP, LINES))
        body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        died = await killed_at(world, step, lambda: world.call("POST", "/batches", json=body))
        again = await world.call("POST", "/batches", json=body, headers={"x-stainless-retry-count": "1"})
        assert len(world.rows("SELECT id FROM batches")) == 1
        await to_the_end(world, again["id"])
        return died

    assert await at_every_step(world, scenario) == 5


async def test_an_upload_killed_between_any_two_steps_leaves_one_file_for_its_retry(world: World) -> None:
    async def scenario(step: int) -> bool:
        content = chat_lines(GROUP, LINES)
        died = await killed_at(world, step, lambda: world.upload(content))
        file = await world.upload(content, headers={"x-stainless-retry-count": "1"})
        assert [row["id"] for row in world.rows("SELECT id FROM files WHERE deleted_at IS NULL")] == [file.id]
        await to_the_end(world, (await world.create(file.id)).id)
        world.age(7200)
        await world.run_schedule()
        await world.deliver_all()
        assert world.rows("SELECT 1 FROM files WHERE deleted_at IS NOT NULL AND purged_at IS NULL") == []
        return died

    assert await at_every_step(world, scenario) > 8


async def test_a_worker_killed_between_any_two_steps_of_a_cancel(world: World) -> None:
    async def scenario(step: int) -> bool:
        world.provider.world.stall("openai", "in_progress")
        batch_id = await started(world)
        await world.deliver_all()
        assert (await world.cancel(batch_id)).status == "cancelling"
        died = await killed_at(world, step, lambda: world.run_until_ended(batch_id))
        ended = await world.run_until_ended(batch_id)
        assert (ended.status, [job.state for job in world.jobs_at_providers()]) == ("cancelled", ["cancelled"])
        assert len(world.rows("SELECT * FROM usage")) == 1
        return died

    assert await at_every_step(world, scenario) > 15


async def test_every_message_delivered_twice_at_once(world: World) -> None:
    batch_id = await started(world)
    for _ in range(40):
        waiting, world.mailbox.messages = world.mailbox.messages, []
        await asyncio.gather(*(world.deliver(message) for message in [*waiting, *waiting]))
        if (await world.retrieve(batch_id)).status in ENDED:
            break
        world.age(30)
        await world.run_schedule()

    check(world, batch_id)


async def test_two_pollers_at_once(world: World) -> None:
    batch_ids = [await started(world) for _ in range(5)]
    await world.deliver_all()
    for _ in range(10):
        world.age(30)
        await asyncio.gather(world.run_schedule(), world.run_schedule())
        await world.deliver_all()

    for batch_id in batch_ids:
        assert (await world.retrieve(batch_id)).status == "completed"
    assert len(world.jobs_at_providers()) == len(world.rows("SELECT * FROM usage")) == 5


@pytest.mark.parametrize("kind", ["cut", "error", "garbage"])
async def test_a_create_that_failed_but_happened(world: World, kind: str) -> None:
    fault = Fault.model_validate({"kind": kind, "route": "batches.create", "when": "after"})
    world.provider.fail(fault)
    batch_id = await started(world)

    await to_the_end(world, batch_id)


async def test_a_create_that_failed_and_did_not_happen_is_made_again(world: World) -> None:
    world.provider.fail(Fault(kind="cut", route="batches.create", when="before"))
    batch_id = await started(world)

    await to_the_end(world, batch_id)

    assert len(world.rows("SELECT 1 FROM jobs WHERE state = 'absent'")) == 1


async def test_an_unclear_create_is_not_repeated_before_its_settling_time(world: World) -> None:
    world.provider.fail(Fault(kind="cut", route="batches.create", when="before"))
    world.provider.fail(Fault(kind="error", route="batches.list", times=None))
    batch_id = await started(world)
    for _ in range(8):
        await world.deliver_all()
        world.age(30)
        await world.run_schedule()

    assert (await world.retrieve(batch_id)).status == "validating"
    assert len(world.provider.log(route="batches.create")) == 1

    world.provider.world.faults.clear()
    await to_the_end(world, batch_id)


async def test_a_cancel_during_a_submit_reaches_the_provider(world: World) -> None:
    world.provider.world.stall("openai", "in_progress")
    world.provider.fail(Fault(kind="delay", route="batches.create", when="after", seconds=0.3))
    batch_id = await started(world)
    for message in [message for message in world.mailbox.messages if message.kind == "input"]:
        await world.deliver(message)
    world.age(10)

    submit = asyncio.create_task(world.deliver(Message("batch", batch_id)))
    while not world.jobs_at_providers():  # noqa: ASYNC110 (the provider runs in another thread)
        await asyncio.sleep(0.02)
    assert (await world.cancel(batch_id)).status == "cancelling"
    await submit

    ended = await world.run_until_ended(batch_id)
    [job] = world.jobs_at_providers()
    assert (ended.status, job.state) == ("cancelled", "cancelled")


async def test_a_cancel_before_the_submit_submits_nothing(world: World) -> None:
    batch_id = await started(world)
    await world.cancel(batch_id)

    ended = await world.run_until_ended(batch_id)

    assert ended.status == "cancelled"
    assert not world.jobs_at_providers()
    assert world.rows("SELECT * FROM usage") == []


async def test_a_cancel_that_the_provider_overtook_ends_as_the_job_did(world: World) -> None:
    batch_id = await started(world)
    await world.deliver_all()
    world.age(5)
    await world.cancel(batch_id)

    ended = await world.run_until_ended(batch_id)

    assert ended.status in ("completed", "cancelled")
    assert len(world.rows("SELECT * FROM usage")) == 1


async def test_messages_lost_altogether_are_made_up_by_the_schedule(world: World) -> None:
    batch_id = await started(world)
    for _ in range(20):
        world.mailbox.messages.clear()
        world.age(60)
        await world.run_schedule()
        await world.deliver_all()

    assert (await world.retrieve(batch_id)).status == "completed"
    check(world, batch_id)


async def test_a_provider_that_drops_metadata_gives_each_batch_a_job_of_its_own(world: World) -> None:
    world.provider.fail(Fault(kind="cut", route="batches.create", when="after", times=2))
    file = await world.upload(chat_lines(GROUP, LINES))
    batch_ids = [(await world.create(file.id)).id for _ in range(2)]
    await world.deliver_all()
    for job in world.jobs_at_providers():
        job.metadata = None

    for batch_id in batch_ids:
        assert (await world.run_until_ended(batch_id)).status == "completed"
    assert len(world.jobs_at_providers()) == 2
    assert len(world.rows("SELECT * FROM usage")) == 2
