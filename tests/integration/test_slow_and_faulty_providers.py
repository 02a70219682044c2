"""A deployment that hangs, or sends malformed answers, delays its own batches and no others."""

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
from manifold.providers.openai.batches import OpenAIBatches
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

BAD, GOOD = "gpt-4.1-mini-batch", "gpt-4o-batch"
ACCOUNTS = ("openai", "azure-general", "azure-special")


async def running(system: System, group: str, count: int = 1) -> list[str]:
    """Batches of this group that stay in progress at their providers until `let_go`."""
    for account in ACCOUNTS:
        system.provider.state.stall(account, "in_progress")
    file = await system.upload(chat_lines(group, 1))
    batches = [await system.create(file.id) for _ in range(count)]
    await system.deliver_all()
    system.age(30)
    await system.deliver_all()
    statuses = [(await system.retrieve(batch.id)).status for batch in batches]
    assert statuses == ["in_progress"] * count
    return [batch.id for batch in batches]


def let_go(system: System) -> None:
    for account in ACCOUNTS:
        system.provider.state.stall(account, None)


def hang(system: System, *routes: str) -> None:
    for route in routes:
        system.provider.fail(Fault(kind="delay", account="openai", route=route, times=None, seconds=2.0))


def leased_batches(system: System) -> list[dict[str, Any]]:
    return system.select("SELECT id FROM shards WHERE lease IS NOT NULL")


async def claimed(system: System) -> list[RunningJob]:
    async with system.gateway.store.session() as tables:
        shards = await tables.shard_leases.claim_due("lease", 75, 100)
        batches = await tables.batches.of([shard.batch_id for shard in shards])
        jobs = await tables.jobs.open([shard.id for shard in shards])
    runs = []
    for shard in shards:
        deployment = system.gateway.deployments.get(jobs[shard.id].deployment_id)
        assert deployment is not None
        runs.append(RunningJob(batches[shard.batch_id], shard, jobs[shard.id], deployment))
    return runs


@pytest.mark.parametrize("count", [1, 6], ids=["one by one", "by listing"])
async def test_a_deployment_that_hangs_holds_up_no_other(
    system: System, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    hung, sound = await running(system, BAD, count), await running(system, GOOD)
    let_go(system)
    hang(system, "batches.list", "batches.retrieve")
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.3)
    system.age(600)

    assert await system.engine().poll_due(100) == count + 1

    [row] = system.select("SELECT id FROM batches WHERE status = 'finalizing'")
    assert row["id"] == sound[0]
    assert leased_batches(system) == [], "what could not be asked is released"

    system.provider.state.faults.clear()
    for batch_id in hung:
        assert (await system.run_until_ended(batch_id)).status == "completed"


async def test_a_deployment_is_written_while_another_still_hangs(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running(system, BAD)
    [sound] = await running(system, GOOD)
    let_go(system)
    system.age(600)
    poll = OpenAIBatches.poll

    async def hanging(
        self: OpenAIBatches, at: Endpoint, refs: Sequence[str], known: MutableMapping[str, JobStatus]
    ) -> None:
        if "/accounts/openai/" in f"{at.base_url}/":
            await asyncio.Event().wait()
        await poll(self, at, refs, known)

    monkeypatch.setattr(OpenAIBatches, "poll", hanging)
    jobs = await claimed(system)
    assert len(jobs) == 2
    store, deployments = system.gateway.store, system.gateway.deployments

    result = await anext(Polling(store, deployments, Cancellation(store, deployments)).poll(jobs))

    assert [running.batch.id for running in result.jobs] == [sound]
    assert (await system.retrieve(sound)).status == "finalizing"


async def test_pages_of_a_listing_that_timed_out_are_kept(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = await running(system, BAD, 6)
    let_go(system)
    [first, *_] = (job for job in system.jobs_at_providers() if job.account.name == "openai")
    system.age(600)

    async def one_page_then_nothing(
        self: OpenAIBatches, at: Endpoint, refs: Sequence[str], known: MutableMapping[str, JobStatus]
    ) -> None:
        if status := await self._retrieve(at, first.id):
            known[first.id] = status
        await asyncio.Event().wait()

    monkeypatch.setattr(OpenAIBatches, "poll", one_page_then_nothing)
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.5)

    assert await system.engine().poll_due(100) == 6

    assert len(system.select("SELECT 1 FROM batches WHERE status = 'finalizing'")) == 1
    assert leased_batches(system) == []
    monkeypatch.undo()
    for batch_id in batches:
        assert (await system.run_until_ended(batch_id)).status == "completed"


async def test_cancels_that_hang_do_not_keep_others_from_being_polled(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, other = await running(system, BAD, 2)
    await system.cancel(cancelled)
    system.queue.messages.clear()
    let_go(system)
    system.provider.fail(Fault(kind="delay", route="batches.cancel", times=None, seconds=2.0))
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.5)
    system.age(600)
    await system.engine().poll_due(100)

    assert (await system.retrieve(other)).status == "finalizing"
    assert leased_batches(system) == []


async def test_deployments_take_turns_when_not_all_can_be_claimed(system: System) -> None:
    many = await running(system, BAD, 5)
    [one] = await running(system, GOOD)
    system.age(600)
    async with system.gateway.store.session() as tables:
        first = await tables.shard_leases.claim_due("lease", 75, 2)

    assert len(first) == 2
    assert one in {shard.batch_id for shard in first}
    assert {shard.batch_id for shard in first} & set(many)


async def test_no_more_are_claimed_than_the_limit_whatever_postgres_plans(system: System) -> None:
    await running(system, BAD, 1)
    system.analyze("shards")  # so the plan expects one row, and may repeat what it is compared with
    await running(system, BAD, 5)
    system.age(600)
    await system.gateway.store.database.close()  # the next connection has no plan of an earlier claim

    async with system.gateway.store.session() as tables:
        claimed = await tables.shard_leases.claim_due("lease", 75, 2)

    assert len(claimed) == 2


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
async def test_a_malformed_answer_affects_only_its_job(system: System, members: dict[str, Any], count: int) -> None:
    await running(system, BAD, count)
    [sound] = await running(system, GOOD)
    let_go(system)
    for route in ("batches.retrieve", "batches.list"):
        system.provider.fail(Fault(kind="override", account="openai", route=route, times=None, members=members))

    assert (await system.run_until_ended(sound)).status == "completed"
    assert leased_batches(system) == []
    [counts] = system.select("SELECT min(least(total, completed, failed)) AS least FROM batches")
    assert counts["least"] >= 0


@pytest.mark.parametrize("method", ["poll", "cancel"])
async def test_an_adapters_failure_affects_only_its_job(
    system: System, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    [broken], [sound] = await running(system, BAD), await running(system, GOOD)
    await system.cancel(broken)
    let_go(system)
    meant = getattr(OpenAIBatches, method)

    async def breaking(self: OpenAIBatches, at: Endpoint, *more: Any) -> Any:
        if "/accounts/openai/" in f"{at.base_url}/":
            raise RecursionError("maximum recursion depth exceeded")
        return await meant(self, at, *more)

    monkeypatch.setattr(OpenAIBatches, method, breaking)
    assert (await system.run_until_ended(sound)).status == "completed"
    monkeypatch.undo()
    assert (await system.run_until_ended(broken)).status in ("completed", "cancelled")


@pytest.mark.parametrize("member", [{"id": 5}, {"id": None}, {"id": "a\0b"}, {"id": ["batch_1"]}], ids=str)
async def test_a_create_that_answers_no_id_is_looked_for(system: System, member: dict[str, Any]) -> None:
    system.provider.fail(Fault(kind="override", route="batches.create", members=member))
    batch = await system.create((await system.upload(chat_lines(BAD, 1))).id)

    assert (await system.run_until_ended(batch.id)).status == "completed"
    assert len(system.jobs_at_providers()) == 1
