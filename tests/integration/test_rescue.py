"""A batch that its provider will not end within its window is run by the gateway: `rescue_before_expiry`."""

from dataclasses import replace

import pytest

from local.provider import Fault
from local.provider.pace import Pace
from manifold.config import Deployment
from manifold.schemas import Batch
from tests.support.own_execution import assert_complete, calls, created, results
from tests.support.provider import chat_line, chat_lines
from tests.support.system import ENDED, FAST_PACE, System

pytest_plugins = ("tests.support.own_execution",)

GROUP = "rescued"
SLOW = Pace(validating=0.0, in_progress=36000.0, finalizing=0.0, cancelling=0.0, processing=0.0)
LINES = 6


async def waiting(system: System, pace: Pace, content: bytes = chat_lines(GROUP, LINES)) -> str:
    """A batch whose job runs at the provider, at this pace."""
    system.provider.state.batches.pace = pace
    batch_id = await created(system, content)
    for _ in range(4):
        await system.deliver_all()
        system.age(10)
        await system.run_schedule()
    [job] = system.select("SELECT state, execution FROM jobs")
    assert job == {"state": "running", "execution": "provider"}
    return batch_id


def leave(system: System, minutes: float) -> None:
    """Let the batch have so many minutes left."""
    system.select(f"UPDATE batches SET expires_at = now() + interval '{minutes} minutes' RETURNING id")
    system.select("UPDATE shards SET due_at = now() WHERE due_at IS NOT NULL RETURNING id")


async def rescued(system: System, batch_id: str) -> Batch:
    batch = await system.run_until_ended(batch_id)
    executions = system.select("SELECT execution, state FROM jobs ORDER BY created_at")
    assert [one["execution"] for one in executions] == ["provider", "gateway"]
    return batch


async def test_what_the_provider_has_not_answered_runs_here(own: System) -> None:
    batch_id = await waiting(own, SLOW)
    leave(own, 29)
    batch = await rescued(own, batch_id)
    assert_complete(own, batch, LINES, GROUP)
    assert len(calls(own)) == LINES


async def test_a_provider_that_does_not_end_its_job_is_not_waited_for(own: System) -> None:
    own.provider.fail(Fault(kind="error", account="openai", route="batches.cancel", times=None))
    batch_id = await waiting(own, SLOW)
    leave(own, 29)
    await own.run_schedule()
    [job] = own.select("SELECT state FROM jobs")
    assert job["state"] == "running"
    leave(own, 19)
    batch = await rescued(own, batch_id)
    assert_complete(own, batch, LINES, GROUP)
    assert len(calls(own)) == LINES


async def test_a_batch_that_no_deployment_took_by_then_runs_here(own: System) -> None:
    batch_id = await created(own, chat_lines(GROUP, LINES))
    own.select("UPDATE batches SET expires_at = now() + interval '10 minutes' RETURNING id")
    batch = await own.run_until_ended(batch_id)
    assert_complete(own, batch, LINES, GROUP)
    assert own.jobs_at_providers() == []


@pytest.mark.parametrize("minutes", [31, 600])
async def test_before_that_the_provider_has_its_time(own: System, minutes: float) -> None:
    batch_id = await waiting(own, SLOW)
    leave(own, minutes)
    await own.run_schedule()
    await own.deliver_all()
    assert calls(own) == []
    assert (await own.retrieve(batch_id)).status == "in_progress"


async def test_a_provider_keeps_what_the_gateway_cannot_call(own: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deployment, "completion_endpoints", frozenset[str]())
    batch_id = await waiting(own, SLOW)
    for minutes in (29, 19, 1):
        leave(own, minutes)
        await own.run_schedule()
        await own.deliver_all()
    assert [job.state for job in own.jobs_at_providers()] == ["in_progress"]
    assert own.select("SELECT state, execution FROM jobs") == [{"state": "running", "execution": "provider"}]

    own.provider.state.batches.pace = FAST_PACE
    assert_complete(own, await own.run_until_ended(batch_id), LINES, GROUP)
    assert calls(own) == []


def answer_half(system: System) -> None:
    """Let the provider have answered half of its job by now."""
    batches = system.provider.state.batches
    job = batches.known(batches.ids()[-1])
    job.since -= SLOW.in_progress / 2


async def counted(system: System, batch_id: str) -> tuple[Batch, list[tuple[int, int]]]:
    """The batch once it has ended, and how many completed and failed requests it had after each step."""
    seen = [(0, 0)]
    for _ in range(60):
        while system.queue.messages:
            await system.deliver(system.queue.messages.pop(0))
            batch = await system.retrieve(batch_id)
            counts = batch.request_counts
            assert counts.completed + counts.failed <= counts.total == LINES
            if seen[-1] != (counts.completed, counts.failed):
                seen.append((counts.completed, counts.failed))
            if batch.status in ENDED:
                return batch, seen
        system.age(30)
        await system.run_schedule()
    raise AssertionError("the batch has not ended")


@pytest.mark.parametrize("minutes", [29, 15], ids=["in time", "after a late cancel"])
async def test_a_request_that_the_provider_answered_counts_once(own: System, minutes: float) -> None:
    batch_id = await waiting(own, SLOW)
    answer_half(own)
    leave(own, minutes)
    batch, seen = await counted(own, batch_id)
    assert_complete(own, batch, LINES, GROUP)
    assert seen == [(0, 0), (3, 0), (6, 0)]
    assert len(calls(own)) == 3


async def test_a_request_that_failed_counts_once_wherever_it_ran(own: System) -> None:
    lines = [chat_line(GROUP, f"request-{number}") for number in range(1, LINES - 1)]
    first, last = [chat_line(GROUP, f"request-{number}", temperature=7) for number in (0, LINES - 1)]
    content = b"".join([first, *lines, last])
    batch_id = await waiting(own, SLOW, content)
    answer_half(own)
    leave(own, 29)
    batch, seen = await counted(own, batch_id)
    assert batch.status == "completed"
    assert seen[-1] == (len(results(own, batch.output_file_id)), len(results(own, batch.error_file_id))) == (4, 2)
    sums = [completed + failed for completed, failed in seen]
    assert sums == sorted(sums)


async def test_a_request_that_runs_again_does_not_count_before(own: System) -> None:
    own.provider.fail(Fault(kind="error", account="openai", route="batches.cancel", times=None))
    batch_id = await waiting(own, SLOW)
    answer_half(own)
    leave(own, 29)
    await own.run_schedule()
    assert (await own.retrieve(batch_id)).request_counts.completed == 3
    leave(own, 19)
    await own.run_schedule()
    assert (await own.retrieve(batch_id)).request_counts.completed == 0
    batch, seen = await counted(own, batch_id)
    assert_complete(own, batch, LINES, GROUP)
    assert seen == [(0, 0), (6, 0)]
    assert len(calls(own)) == LINES


async def test_a_rescue_that_fails_counts_nothing_that_has_no_result(own: System) -> None:
    own.provider.fail(Fault(kind="error", account="openai", route="batches.cancel", times=None))
    own.provider.fail(Fault(kind="error", account="vllm", route="chat.create", times=None, status=401))
    batch_id = await waiting(own, SLOW)
    answer_half(own)
    leave(own, 19)
    batch, _ = await counted(own, batch_id)
    assert batch.status == "failed"
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (0, 0)


async def test_a_request_that_the_provider_says_it_has_not_run_runs_here(own: System) -> None:
    batch_id = await waiting(own, SLOW, chat_lines("rescued-claude", LINES))
    answer_half(own)
    leave(own, 29)
    batch, seen = await counted(own, batch_id)
    assert_complete(own, batch, LINES, "rescued-claude")
    assert seen[-1] == (6, 0)
    assert len(calls(own)) == 3


async def test_a_request_that_expired_at_the_provider_runs_here(own: System) -> None:
    batch_id = await waiting(own, SLOW)
    leave(own, 29)
    own.provider.state.batches.expire("openai", None)
    batch, seen = await counted(own, batch_id)
    assert_complete(own, batch, LINES, GROUP)
    assert seen[-1] == (6, 0)
    assert len(calls(own)) == 3


async def test_what_the_provider_has_answered_is_kept_where_the_window_is_over_first(own: System) -> None:
    batch_id = await waiting(own, SLOW)
    answer_half(own)
    leave(own, -1)
    await own.run_schedule()
    assert own.select("SELECT state, execution FROM jobs") == [{"state": "running", "execution": "provider"}]

    own.provider.state.batches.expire("openai", None)
    batch = await own.run_until_ended(batch_id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 3, 3)
    assert len(results(own, batch.output_file_id)) == 3
    assert calls(own) == []


async def test_a_job_that_was_cancelled_too_late_for_a_rescue_has_expired(own: System) -> None:
    batch_id = await waiting(own, replace(SLOW, cancelling=3600.0))
    answer_half(own)
    leave(own, 29)
    await own.run_schedule()
    leave(own, -1)
    own.provider.state.batches.pace = FAST_PACE
    batch = await own.run_until_ended(batch_id)
    assert (batch.status, batch.request_counts.completed) == ("expired", 3)
    assert calls(own) == []


async def test_what_waits_for_room_is_looked_at_when_its_rescue_begins(own: System) -> None:
    await waiting(own, SLOW, chat_lines("rescued-soon", LINES))
    await created(own, chat_lines("rescued-soon", LINES))
    leave(own, 5)
    await own.deliver_all()
    [shard] = own.select("SELECT extract(epoch FROM due_at - now()) AS pause FROM shards WHERE state = 'waiting'")
    assert 0 < shard["pause"] <= 60


async def test_what_the_gateway_runs_says_nothing_of_the_providers_room(own: System) -> None:
    own.select("INSERT INTO rooms (deployment_id, tokens) VALUES ('too-few', 5) RETURNING 1")
    batch = await own.run_until_ended(await created(own, chat_lines("too-few", LINES)))
    assert batch.status == "completed"
    assert own.select("SELECT tokens FROM rooms WHERE deployment_id = 'too-few'") == [{"tokens": 5}]
