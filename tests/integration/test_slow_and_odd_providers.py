"""One deployment that hangs, or answers what nobody expects, holds up its own batches and no others."""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest

from batches import polling
from batches.cancellation import Cancellation
from batches.polling import Polling
from batches.running_job import RunningJob
from local.provider import Fault
from manifold.providers import Endpoint, JobStatus
from manifold.providers.openai import OpenAI
from manifold.store.batches import BatchRow
from tests.support.provider import chat_lines
from tests.support.world import World

pytest_plugins = ("tests.support.world_fixtures",)

BAD, GOOD = "gpt-4.1-mini-batch", "gpt-4o-batch"
ACCOUNTS = ("openai", "azure-general", "azure-special")


async def running(world: World, group: str, count: int = 1) -> list[str]:
    """Batches of this group that stay in progress at their providers until `let_go`."""
    for account in ACCOUNTS:
        world.provider.world.stall(account, "in_progress")
    file = await world.upload(chat_lines(group, 1))
    batches = [await world.create(file.id) for _ in range(count)]
    await world.deliver_all()
    world.age(30)
    await world.deliver_all()
    statuses = [(await world.retrieve(batch.id)).status for batch in batches]
    assert statuses == ["in_progress"] * count
    return [batch.id for batch in batches]


def let_go(world: World) -> None:
    for account in ACCOUNTS:
        world.provider.world.stall(account, None)


def hang(world: World, *routes: str) -> None:
    for route in routes:
        world.provider.fail(Fault(kind="delay", account="openai", route=route, times=None, seconds=2.0))


def leased(world: World) -> list[dict[str, Any]]:
    return world.rows("SELECT id FROM batches WHERE lease IS NOT NULL")


async def claimed(world: World) -> list[RunningJob]:
    async with world.gateway.store.session() as tables:
        batches: list[BatchRow] = await tables.batches.claim_due("lease", 75, 100)
        jobs = await tables.jobs.open([batch.id for batch in batches])
    runs = []
    for batch in batches:
        deployment = world.gateway.deployments.get(jobs[batch.id].deployment_id)
        assert deployment is not None
        runs.append(RunningJob(batch, jobs[batch.id], deployment))
    return runs


@pytest.mark.parametrize("count", [1, 6], ids=["one by one", "by listing"])
async def test_a_deployment_that_hangs_is_left_alone_for_the_rest_of_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    hung, sound = await running(world, BAD, count), await running(world, GOOD)
    let_go(world)
    hang(world, "batches.list", "batches.retrieve")
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.3)
    world.age(600)
    silent: set[str] = set()

    assert await world.engine().poll_due(100, silent) == count + 1

    assert len(silent) == 1
    [row] = world.rows("SELECT id FROM batches WHERE status = 'finalizing'")
    assert row["id"] == sound[0]
    assert leased(world) == [], "what could not be asked is released"
    world.age(600)
    before = len(world.provider.log("openai"))
    assert await world.engine().poll_due(100, silent) == 0, "it is not claimed again in this run"
    assert len(world.provider.log("openai")) == before

    world.provider.world.faults.clear()
    for batch_id in hung:
        assert (await world.run_until_ended(batch_id)).status == "completed"


async def test_a_deployment_is_written_while_another_still_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await running(world, BAD)
    [sound] = await running(world, GOOD)
    let_go(world)
    world.age(600)
    poll = OpenAI.poll

    async def hanging(self: OpenAI, at: Endpoint, refs: Sequence[str], known: MutableMapping[str, JobStatus]) -> None:
        if "/accounts/openai/" in f"{at.base_url}/":
            await asyncio.Event().wait()
        await poll(self, at, refs, known)

    monkeypatch.setattr(OpenAI, "poll", hanging)
    jobs = await claimed(world)
    assert len(jobs) == 2
    store, deployments = world.gateway.store, world.gateway.deployments

    result = await anext(Polling(store, world.mailbox, deployments, Cancellation(store, deployments)).poll(jobs))

    assert [running.batch.id for running in result.jobs] == [sound]
    assert (await world.retrieve(sound)).status == "finalizing"


async def test_what_a_slow_listing_told_before_its_time_was_up_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = await running(world, BAD, 6)
    let_go(world)
    [first, *_] = (job for job in world.jobs_at_providers() if job.account.name == "openai")
    world.age(600)

    async def one_page_then_nothing(
        self: OpenAI, at: Endpoint, refs: Sequence[str], known: MutableMapping[str, JobStatus]
    ) -> None:
        await self._poll_each(at, [first.id], known)
        await asyncio.Event().wait()

    monkeypatch.setattr(OpenAI, "_poll_listed", one_page_then_nothing)
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.5)
    silent: set[str] = set()

    assert await world.engine().poll_due(100, silent) == 6

    assert silent == set()
    assert len(world.rows("SELECT 1 FROM batches WHERE status = 'finalizing'")) == 1
    assert leased(world) == []
    monkeypatch.undo()
    for batch_id in batches:
        assert (await world.run_until_ended(batch_id)).status == "completed"


async def test_cancels_that_hang_do_not_keep_others_from_being_polled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, other = await running(world, BAD, 2)
    await world.cancel(cancelled)
    world.mailbox.messages.clear()
    let_go(world)
    world.provider.fail(Fault(kind="delay", route="batches.cancel", times=None, seconds=2.0))
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.5)
    world.age(600)

    await world.engine().poll_due(100, set())

    assert (await world.retrieve(other)).status == "finalizing"
    assert leased(world) == []


async def test_deployments_take_turns_when_not_all_can_be_claimed(world: World) -> None:
    many = await running(world, BAD, 5)
    [one] = await running(world, GOOD)
    world.age(600)
    async with world.gateway.store.session() as tables:
        first = await tables.batches.claim_due("lease", 75, 2)

    assert len(first) == 2
    assert one in {batch.id for batch in first}
    assert {batch.id for batch in first} & set(many)


ODD: dict[str, dict[str, Any]] = {
    "5000 digits": {"status": "failed", "errors": {"data": [{"message": "bad", "line": "9" * 5000}]}},
    "a status that is a list": {"status": ["completed"]},
    "a status that nobody knows": {"status": "pondering"},
    "counts below zero": {"request_counts": {"total": -5, "completed": -1, "failed": -(10**30)}},
    "counts that are none": {"request_counts": ["total"]},
    "an id that is a number": {"id": 5},
    "another job's id": {"id": "batch_another"},
    "files that no row takes": {"status": "completed", "output_file_id": "a\0b", "error_file_id": {"id": "x"}},
    "times that nobody lives to see": {"created_at": 1e300, "expires_at": "1" * 5000},
    "errors within errors": {"status": "failed", "errors": [[[[]]], None, 7, {"message": ["bad"], "line": {}}]},
}


@pytest.mark.parametrize("count", [1, 6], ids=["one by one", "by listing"])
@pytest.mark.parametrize("members", ODD.values(), ids=ODD)
async def test_an_odd_answer_is_its_own_jobs(world: World, members: dict[str, Any], count: int) -> None:
    await running(world, BAD, count)
    [sound] = await running(world, GOOD)
    let_go(world)
    for route in ("batches.retrieve", "batches.list"):
        world.provider.fail(Fault(kind="odd", account="openai", route=route, times=None, members=members))

    assert (await world.run_until_ended(sound)).status == "completed"
    assert leased(world) == []
    [counts] = world.rows("SELECT min(least(total, completed, failed)) AS least FROM batches")
    assert counts["least"] >= 0


@pytest.mark.parametrize("method", ["poll", "cancel"])
async def test_an_adapter_that_breaks_on_an_answer_breaks_its_own_job(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    [broken], [sound] = await running(world, BAD), await running(world, GOOD)
    await world.cancel(broken)
    let_go(world)
    meant = getattr(OpenAI, method)

    async def breaking(self: OpenAI, at: Endpoint, *more: Any) -> Any:
        if "/accounts/openai/" in f"{at.base_url}/":
            raise RecursionError("maximum recursion depth exceeded")
        return await meant(self, at, *more)

    monkeypatch.setattr(OpenAI, method, breaking)
    assert (await world.run_until_ended(sound)).status == "completed"
    monkeypatch.undo()
    assert (await world.run_until_ended(broken)).status in ("completed", "cancelled")


@pytest.mark.parametrize("member", [{"id": 5}, {"id": None}, {"id": "a\0b"}, {"id": ["batch_1"]}], ids=str)
async def test_a_create_that_answers_no_id_is_looked_for(world: World, member: dict[str, Any]) -> None:
    world.provider.fail(Fault(kind="odd", route="batches.create", members=member))
    batch = await world.create((await world.upload(chat_lines(BAD, 1))).id)

    assert (await world.run_until_ended(batch.id)).status == "completed"
    assert len(world.jobs_at_providers()) == 1
