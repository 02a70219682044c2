"""Crashes, repeated messages and races: a batch still has one job at a provider, one output, one usage record."""

import asyncio

import pytest

from local.provider import Fault
from local.provider.defects import Defects
from tests.support.crashes import at_every_step, killed_at
from tests.support.provider import chat_lines
from tests.support.system import ENDED, System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"  # one deployment: a second job could not hide at another
LINES = 2


def assert_one_job_and_output(system: System, batch_id: str) -> None:
    """Assert what is true for every completed batch, whatever happened before."""
    assert len(system.jobs_at_providers()) == 1
    assert len(system.select("SELECT * FROM usage")) == 1
    [usage] = system.select("SELECT requests, failed_requests FROM usage")
    assert usage == {"requests": LINES, "failed_requests": 0}
    [output] = system.select("SELECT id FROM files WHERE purpose = 'batch_output' AND deleted_at IS NULL")
    assert len(system.content(output["id"]).splitlines()) == LINES
    assert system.select("SELECT 1 FROM jobs WHERE state NOT IN ('settled', 'refused', 'absent')") == []
    assert system.select("SELECT 1 FROM inputs WHERE state <> 'ready'") == []


SOON = 12
"""Half-minutes after which a batch has ended even if its worker crashed: leases and waits have expired."""


async def run_to_completion(system: System, batch_id: str) -> None:
    ended = await system.run_until_ended(batch_id, SOON)
    assert ended.status == "completed"
    assert_one_job_and_output(system, batch_id)


async def create_batch(system: System) -> str:
    """A batch whose messages wait in the queue."""
    file = await system.upload(chat_lines(GROUP, LINES))
    return (await system.create(file.id)).id


async def test_a_worker_killed_between_any_two_steps(system: System) -> None:
    async def scenario(step: int) -> bool:
        batch_id = await create_batch(system)
        died = await killed_at(system, step, lambda: system.run_until_ended(batch_id))
        await run_to_completion(system, batch_id)
        return died

    assert await at_every_step(system, scenario) > 40


async def test_a_worker_killed_while_the_end_and_the_results_are_in_doubt(system: System) -> None:
    async def scenario(step: int) -> bool:
        system.provider.state.batches.defects["openai"] = Defects(unnamed=1)
        system.provider.fail(Fault(kind="truncate", route="files.content", framing="chunked", ranges=False))
        batch_id = await create_batch(system)
        await system.deliver_all()
        assert len(system.jobs_at_providers()) == 1  # the first test kills the worker in the steps up to here
        died = await killed_at(system, step, lambda: system.run_until_ended(batch_id))
        await run_to_completion(system, batch_id)
        return died

    assert await at_every_step(system, scenario) > 60


async def test_a_worker_killed_while_results_that_stay_wrong_are_kept(system: System) -> None:
    async def scenario(step: int) -> bool:
        system.provider.state.batches.defects["openai"] = Defects(missing=1)
        batch_id = await create_batch(system)
        for _ in range(3):
            await system.deliver_all()
            system.age(6)
            await system.run_schedule()
        system.age(1800)
        died = await killed_at(system, step, lambda: system.run_until_ended(batch_id))
        ended = await system.run_until_ended(batch_id, rounds=80)
        assert ended.errors is not None
        assert {error.code for error in ended.errors.data} == {"results_incomplete"}
        assert system.select("SELECT requests FROM usage") == [{"requests": LINES - 1}]
        assert len(system.content(str(ended.output_file_id)).splitlines()) == LINES - 1
        return died

    assert await at_every_step(system, scenario) > 10


async def test_a_create_killed_between_any_two_steps_is_found_by_its_retry(system: System) -> None:
    async def scenario(step: int) -> bool:
        file = await system.upload(chat_lines(GROUP, LINES))
        body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        died = await killed_at(system, step, lambda: system.call("POST", "/batches", json=body))
        again = await system.call("POST", "/batches", json=body, headers={"x-stainless-retry-count": "1"})
        assert len(system.select("SELECT id FROM batches")) == 1
        await run_to_completion(system, again["id"])
        return died

    assert await at_every_step(system, scenario) == 5


async def test_an_upload_killed_between_any_two_steps_leaves_one_file_for_its_retry(system: System) -> None:
    async def scenario(step: int) -> bool:
        content = chat_lines(GROUP, LINES)
        died = await killed_at(system, step, lambda: system.upload(content))
        file = await system.upload(content, headers={"x-stainless-retry-count": "1"})
        assert [row["id"] for row in system.select("SELECT id FROM files WHERE deleted_at IS NULL")] == [file.id]
        await run_to_completion(system, (await system.create(file.id)).id)
        system.age(7200)
        await system.run_schedule()
        await system.deliver_all()
        assert system.select("SELECT 1 FROM files WHERE deleted_at IS NOT NULL AND purged_at IS NULL") == []
        return died

    assert await at_every_step(system, scenario) > 8


async def test_a_worker_killed_between_any_two_steps_of_a_cancel(system: System) -> None:
    async def scenario(step: int) -> bool:
        system.provider.state.stall("openai", "in_progress")
        batch_id = await create_batch(system)
        await system.deliver_all()
        assert (await system.cancel(batch_id)).status == "cancelling"
        died = await killed_at(system, step, lambda: system.run_until_ended(batch_id))
        ended = await system.run_until_ended(batch_id)
        assert (ended.status, [job.state for job in system.jobs_at_providers()]) == ("cancelled", ["cancelled"])
        assert len(system.select("SELECT * FROM usage")) == 1
        return died

    assert await at_every_step(system, scenario) > 15


async def test_every_message_delivered_twice_at_once(system: System) -> None:
    batch_id = await create_batch(system)
    for _ in range(40):
        waiting, system.queue.messages = system.queue.messages, []
        await asyncio.gather(*(system.deliver(message) for message in [*waiting, *waiting]))
        if (await system.retrieve(batch_id)).status in ENDED:
            break
        system.age(30)
        await system.run_schedule()

    assert_one_job_and_output(system, batch_id)


async def test_two_pollers_at_once(system: System) -> None:
    batch_ids = [await create_batch(system) for _ in range(5)]
    await system.deliver_all()
    for _ in range(10):
        system.age(30)
        await asyncio.gather(system.run_schedule(), system.run_schedule())
        await system.deliver_all()

    for batch_id in batch_ids:
        assert (await system.retrieve(batch_id)).status == "completed"
    assert len(system.jobs_at_providers()) == len(system.select("SELECT * FROM usage")) == 5


@pytest.mark.parametrize("kind", ["cut", "error", "garbage"])
async def test_a_create_that_failed_but_happened(system: System, kind: str) -> None:
    fault = Fault.model_validate({"kind": kind, "route": "batches.create", "when": "after"})
    system.provider.fail(fault)
    batch_id = await create_batch(system)

    await run_to_completion(system, batch_id)


async def test_a_create_that_failed_and_did_not_happen_is_made_again(system: System) -> None:
    system.provider.fail(Fault(kind="cut", route="batches.create", when="before"))
    batch_id = await create_batch(system)

    await run_to_completion(system, batch_id)

    assert len(system.select("SELECT 1 FROM jobs WHERE state = 'absent'")) == 1


async def test_an_unclear_create_is_not_repeated_while_it_may_still_be_listed(system: System) -> None:
    system.provider.fail(Fault(kind="cut", route="batches.create", when="before"))
    system.provider.fail(Fault(kind="error", route="batches.list", times=None))
    batch_id = await create_batch(system)
    for _ in range(8):
        await system.deliver_all()
        system.age(30)
        await system.run_schedule()

    assert (await system.retrieve(batch_id)).status == "validating"
    assert len(system.provider.log(route="batches.create")) == 1

    system.provider.state.faults.clear()
    await run_to_completion(system, batch_id)


async def test_a_cancel_during_a_submit_reaches_the_provider(system: System) -> None:
    system.provider.state.stall("openai", "in_progress")
    system.provider.fail(Fault(kind="delay", route="batches.create", when="after", seconds=0.3))
    batch_id = await create_batch(system)
    for message in [message for message in system.queue.messages if message.kind == "input"]:
        await system.deliver(message)
    system.age(10)

    submit = asyncio.create_task(system.step(batch_id))
    while not system.jobs_at_providers():  # noqa: ASYNC110 (the provider runs in another thread)
        await asyncio.sleep(0.02)
    assert (await system.cancel(batch_id)).status == "cancelling"
    await submit

    ended = await system.run_until_ended(batch_id)
    [job] = system.jobs_at_providers()
    assert (ended.status, job.state) == ("cancelled", "cancelled")


async def test_a_cancel_before_the_submit_submits_nothing(system: System) -> None:
    batch_id = await create_batch(system)
    await system.cancel(batch_id)

    ended = await system.run_until_ended(batch_id)

    assert ended.status == "cancelled"
    assert not system.jobs_at_providers()
    assert system.select("SELECT * FROM usage") == []


async def test_a_cancel_that_the_provider_overtook_ends_as_the_job_did(system: System) -> None:
    batch_id = await create_batch(system)
    await system.deliver_all()
    system.age(5)
    await system.cancel(batch_id)

    ended = await system.run_until_ended(batch_id)

    assert ended.status in ("completed", "cancelled")
    assert len(system.select("SELECT * FROM usage")) == 1


async def test_messages_lost_altogether_are_made_up_by_the_schedule(system: System) -> None:
    batch_id = await create_batch(system)
    for _ in range(20):
        system.queue.messages.clear()
        system.age(60)
        await system.run_schedule()
        await system.deliver_all()

    assert (await system.retrieve(batch_id)).status == "completed"
    assert_one_job_and_output(system, batch_id)


async def test_a_provider_that_drops_metadata_gives_each_batch_a_job_of_its_own(system: System) -> None:
    system.provider.fail(Fault(kind="cut", route="batches.create", when="after", times=2))
    file = await system.upload(chat_lines(GROUP, LINES))
    batch_ids = [(await system.create(file.id)).id for _ in range(2)]
    await system.deliver_all()
    for job in system.jobs_at_providers():
        job.metadata = None

    for batch_id in batch_ids:
        assert (await system.run_until_ended(batch_id)).status == "completed"
    assert len(system.jobs_at_providers()) == 2
    assert len(system.select("SELECT * FROM usage")) == 2
