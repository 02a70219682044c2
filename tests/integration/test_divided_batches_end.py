"""A batch of several shards ends, whatever its shards are at: nothing stays open, due or running at a provider."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batches.planning import Planning
from local.provider import Fault, Simulator
from local.provider.batch import ENDED
from manifold.providers.registry import close_providers
from manifold.schemas import Batch
from manifold.store.keys import Key
from tests.support.aws import Aws
from tests.support.divided_batches import GROUP, write_config
from tests.support.provider import chat_lines
from tests.support.system import FAST_PACE, System

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")

LINES = 10
ONE_AT_A_TIME = {"max_batch_requests": 2, "max_concurrent_batches": 1}
LIMITS = {"general": ONE_AT_A_TIME, "special": ONE_AT_A_TIME, "mini": ONE_AT_A_TIME}
STATES = {"ended": 1, "running": 2, "unknown": 1, "waiting": 1}
DAY = 86_400


@pytest.fixture
async def system(database_url: str, simulated_provider: Simulator, aws: Aws, tmp_path: Path) -> AsyncIterator[System]:
    """A system whose batches of ten lines have five shards, of which three run at once."""
    simulated_provider.state.batches.pace = FAST_PACE
    made = System(database_url, simulated_provider, aws, write_config(tmp_path / "config.yaml", LIMITS))
    yield made
    await made.close()
    await close_providers()


async def create(system: System) -> Batch:
    return await system.create((await system.upload(chat_lines(GROUP, LINES))).id)


def states(system: System) -> Counter[str]:
    """What the shards are at: the state of their open job, or their own."""
    query = """SELECT CASE WHEN j.state IN ('ended', 'stored') THEN 'storing' ELSE coalesce(j.state, s.state) END
            AS state
        FROM shards s LEFT JOIN jobs j ON j.shard_id = s.id
            AND j.state NOT IN ('settled', 'refused', 'absent', 'abandoned')"""
    return Counter(row["state"] for row in system.select(query))


async def mixed(system: System) -> Batch:
    """A batch of which one shard has ended, one waits for room, two run, and one may."""
    provider = system.provider
    provider.state.stall("openai", "in_progress")
    provider.fail(Fault(kind="refuse", account="openai", route="batches.create"))
    provider.fail(Fault(kind="cut", account="azure-special", route="batches.create", times=None))
    provider.fail(Fault(kind="refuse", status=401, account="azure-special", route="batches.list", times=None))
    batch = await create(system)
    for _ in range(60):
        await system.deliver_all()
        if states(system)["ended"]:
            provider.state.stall("azure-general", "in_progress")
        if states(system) == STATES:
            return batch
        system.age(16)
        await system.run_schedule()
    raise AssertionError(f"the shards are {states(system)}")


def heal(system: System) -> None:
    """Let the providers work again."""
    system.provider.state.faults.clear()
    for account in ("openai", "azure-general", "azure-special"):
        system.provider.state.stall(account, None)


def assert_nothing_left(system: System, *, at_providers: bool = False) -> None:
    """Nothing is open, due or held here, nor runs at a provider, unless `at_providers`."""
    assert system.select("SELECT id, state FROM shards WHERE state <> 'ended' OR due_at IS NOT NULL") == []
    assert (
        system.select(
            """SELECT id, state FROM jobs WHERE due_at IS NOT NULL
               OR state NOT IN ('settled', 'refused', 'absent', 'abandoned')"""
        )
        == []
    )
    assert system.select("SELECT id FROM batches WHERE due_at IS NOT NULL") == []
    if not at_providers:
        assert {job.state for job in system.jobs_at_providers()} <= set(ENDED)


def lines(system: System, file_id: str | None) -> int:
    return len(system.content(file_id).splitlines()) if file_id else 0


async def days(system: System, count: float) -> None:
    """Let time pass, and run the schedule for the last hours."""
    system.age(count * DAY - 10 * 900)
    for _ in range(10):
        system.age(900)
        await system.run_schedule()
        await system.deliver_all()


async def test_a_batch_in_every_state_at_once_says_so(system: System) -> None:
    batch = await system.retrieve((await mixed(system)).id)

    assert batch.status == "in_progress"
    assert batch.shards is not None
    assert batch.shards.model_dump() == {"total": 5, "waiting": 1, "running": 3, "ended": 1}
    assert batch.waiting_for is not None
    assert (batch.waiting_for.reason, batch.waiting_for.shards) == ("room", 1)
    assert batch.attempts is not None
    outcomes = Counter(attempt.outcome for attempt in batch.attempts)
    assert outcomes == {"refused": 1, "submitting": 1, "running": 2, "completed": 1}
    assert {attempt.shard for attempt in batch.attempts} <= set(range(5))
    assert {attempt.model for attempt in batch.attempts} == {GROUP}
    assert 2 <= batch.request_counts.completed < LINES, "those of the ended shard, and what running ones report"


async def test_a_cancel_ends_each_shard_as_it_is(system: System) -> None:
    batch = await mixed(system)

    assert (await system.cancel(batch.id)).status == "cancelling"
    assert (await system.cancel(batch.id)).status == "cancelling", "a second one is no error"
    await system.deliver_all()
    heal(system)
    ended = await system.run_until_ended(batch.id)

    assert ended.status == "cancelled"
    assert lines(system, ended.output_file_id) == ended.request_counts.completed >= 2
    assert lines(system, ended.output_file_id) + lines(system, ended.error_file_id) == LINES
    assert ended.request_counts.completed + ended.request_counts.failed == LINES
    assert_nothing_left(system)


async def test_a_cancel_before_the_plan_submits_nothing(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = await create(system)
    plan = Planning.plan

    async def cancelled_meanwhile(planning: Planning, *given: Any) -> Any:
        await system.cancel(batch.id)
        return await plan(planning, *given)

    monkeypatch.setattr(Planning, "plan", cancelled_meanwhile)
    ended = await system.run_until_ended(batch.id)

    assert ended.status == "cancelled"
    assert ended.shards is not None
    assert ended.shards.total == 0
    assert system.jobs_at_providers() == []
    assert_nothing_left(system)


async def test_a_cancel_between_the_plan_and_the_first_job_submits_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await create(system)
    plan = Planning.plan

    async def cancelled_then(planning: Planning, *given: Any) -> Any:
        planned = await plan(planning, *given)
        await system.cancel(batch.id)
        return planned

    monkeypatch.setattr(Planning, "plan", cancelled_then)
    ended = await system.run_until_ended(batch.id)

    assert ended.status == "cancelled"
    assert ended.shards is not None
    assert ended.shards.ended == 5
    assert system.jobs_at_providers() == []
    assert_nothing_left(system)


async def test_a_batch_whose_results_are_joined_is_not_cancelled(system: System) -> None:
    batch = await create(system)
    for _ in range(40):
        system.queue.messages = [one for one in system.queue.messages if one.kind != "join"]
        if set(states(system)) == {"ended"}:
            break
        while waiting := [one for one in system.queue.messages if one.kind != "join"]:
            system.queue.messages.remove(waiting[0])
            await system.deliver(waiting[0])
        system.age(16)
        await system.run_schedule()
    assert (await system.retrieve(batch.id)).status == "finalizing"

    with pytest.raises(AssertionError, match="batch_not_cancellable"):
        await system.cancel(batch.id)

    ended = await system.run_until_ended(batch.id)
    assert (ended.status, lines(system, ended.output_file_id)) == ("completed", LINES)
    assert_nothing_left(system)


@pytest.mark.parametrize("cancelled", [False, True], ids=["open", "cancelling"])
async def test_an_admin_ends_a_batch_with_shards_in_every_state(system: System, cancelled: bool) -> None:
    batch = await mixed(system)
    if cancelled:
        await system.cancel(batch.id)

    ended = await system.call("POST", f"/batches/{batch.id}/end")

    assert ended["status"] == ("cancelled" if cancelled else "failed")
    assert (ended["output_file_id"], ended["error_file_id"]) == (None, None)
    assert_nothing_left(system, at_providers=True)
    submitted = len(system.jobs_at_providers())
    await days(system, 0.2)
    assert (await system.retrieve(batch.id)).status == ended["status"]
    assert len(system.jobs_at_providers()) == submitted
    assert [key for key in system.stored() if "uploads" not in key and batch.input_file_id not in key] == [], "purged"


async def test_an_overdue_batch_keeps_what_its_shards_brought(system: System) -> None:
    batch = await mixed(system)
    system.provider.fail(Fault(kind="refuse", status=401, times=None))

    await days(system, 1.9)
    await days(system, 0.4)

    ended = await system.retrieve(batch.id)
    assert ended.status == "expired"
    assert ended.errors is not None
    assert "batch_abandoned" in {error.code for error in ended.errors.data}
    assert (lines(system, ended.output_file_id), lines(system, ended.error_file_id)) == (2, LINES - 2)
    assert_nothing_left(system, at_providers=True)


async def test_a_deleted_input_file_is_kept_for_the_shards_that_wait(system: System) -> None:
    batch = await mixed(system)

    await system.call_files("DELETE", f"/files/{batch.input_file_id}")
    await system.deliver_all()
    heal(system)
    ended = await system.run_until_ended(batch.id)

    assert (ended.status, lines(system, ended.output_file_id)) == ("completed", LINES)
    assert_nothing_left(system)
    await system.run_schedule()
    await system.deliver_all()
    assert [key for key in system.stored() if batch.input_file_id in key] == []


async def test_the_counts_never_fall_and_never_exceed_the_total(system: System) -> None:
    batch = await mixed(system)
    heal(system)
    seen = [batch.request_counts]
    for _ in range(60):
        for message in list(system.queue.messages):
            system.queue.messages.remove(message)
            await system.deliver(message)
            seen.append((await system.retrieve(batch.id)).request_counts)
        if (await system.retrieve(batch.id)).status in ("completed", "failed", "expired"):
            break
        system.age(16)
        await system.run_schedule()

    assert {counts.total for counts in seen} == {LINES}
    answered = [counts.completed + counts.failed for counts in seen]
    assert answered == sorted(answered)
    assert answered[-1] == LINES


async def test_a_batch_ends_whose_owners_key_is_deleted(system: System) -> None:
    batch = await mixed(system)
    async with system.gateway.store.session() as tables:
        await tables.keys.insert(Key(id="key_gone", token_hash="hash", name="sk-...gone"))
        await tables.connection.execute("UPDATE batches SET key_id = 'key_gone'")
        await tables.keys.delete("key_gone")
    heal(system)

    ended = await system.run_until_ended(batch.id)

    assert (ended.status, lines(system, ended.output_file_id)) == ("completed", LINES)
    assert_nothing_left(system)
