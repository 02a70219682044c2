"""Every batch ends, whatever its provider does, and at once if an admin ends it; the database's clock counts."""

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest

from batches import submission
from batches.settlement import LeaseLost, Settlement
from local.provider import Fault
from local.provider.defects import Defects
from manifold import ids
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.queue import Message
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
DAY = 86_400


async def open_batch(system: System, state: str) -> str:
    """A batch whose job is in this state."""
    if state in ("unknown", "submitting"):
        system.provider.fail(Fault(kind="cut", route="batches.create"))
        system.provider.fail(Fault(kind="refuse", status=401, route="batches.list", times=None))
    if state == "running":
        system.provider.state.stall("openai", "in_progress")
    system.provider.fail(Fault(kind="error", status=500, route="files.content", times=None))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    for _ in range(3):
        await system.deliver_all()
        system.age(20)
        await system.run_schedule()
    if state == "submitting":
        change(system, "UPDATE jobs SET state = 'submitting'")
    [job] = system.select("SELECT state FROM jobs")
    assert job["state"] == state
    return batch.id


def change(system: System, statement: str) -> None:
    with psycopg.connect(system._database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def dead(system: System) -> None:
    """Have the account refuse every request, also those for its files."""
    system.provider.state.faults.clear()
    system.provider.fail(Fault(kind="error", account="openai", route="files.content", times=None))
    system.provider.fail(Fault(kind="refuse", status=401, account="openai", times=None))


async def days(system: System, count: float) -> None:
    """Let time pass, and run the schedule for the last hours."""
    rounds = 5
    system.age(count * DAY - rounds * 1_800)
    for _ in range(rounds):
        system.age(1_800)
        await system.run_schedule()
        await system.deliver_all()


STATES = pytest.mark.parametrize("state", ["submitting", "unknown", "running", "ended"])


@STATES
@pytest.mark.parametrize("cancelled", [False, True], ids=["open", "cancelling"])
async def test_a_batch_at_an_account_that_refuses_everything_ends(system: System, state: str, cancelled: bool) -> None:
    batch_id = await open_batch(system, state)
    dead(system)
    if cancelled:
        change(system, "UPDATE batches SET status = 'cancelling', cancelling_at = now()")

    await days(system, 1.9)
    assert (await system.retrieve(batch_id)).status not in ("expired", "cancelled"), "its provider may still come back"
    await days(system, 0.3)

    ended = await system.retrieve(batch_id)
    assert ended.status == ("cancelled" if cancelled else "expired")
    assert ended.errors is not None
    assert [error.code for error in ended.errors.data] == ["batch_abandoned"]
    assert system.select("SELECT state FROM jobs") == [{"state": "abandoned"}]
    assert system.select("SELECT 1 FROM files WHERE purpose = 'batch_output' AND purged_at IS NULL") == []
    assert [key for key in system.stored() if "output" in key] == []


@pytest.mark.parametrize("gone", [False, True], ids=["refused", "deployment gone"])
async def test_fetched_results_are_kept_when_their_batch_ends_late(
    system: System, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.provider.state.batches.defects["openai"] = Defects(missing=1)
    batch = await system.create((await system.upload(chat_lines(GROUP, 4))).id)
    for _ in range(3):
        await system.deliver_all()
        system.age(6)
        await system.run_schedule()
    assert system.select("SELECT state, kept FROM jobs") == [{"state": "ended", "kept": {"output": 3}}]
    system.provider.fail(Fault(kind="error", status=500, route="files.content", times=None))
    if gone:
        monkeypatch.setattr(Deployments, "get", lambda *_: None)

    await days(system, 1.9)
    assert (await system.retrieve(batch.id)).status == "finalizing", "its provider may still come back"
    await days(system, 0.3)

    ended = await system.retrieve(batch.id)
    assert ended.status == "completed"
    assert ended.errors is not None
    assert {error.code for error in ended.errors.data} == {"results_incomplete"}
    assert len(system.content(str(ended.output_file_id)).splitlines()) == 3
    assert system.select("SELECT requests, input_tokens FROM usage") == [{"requests": 3, "input_tokens": 6}]


async def test_a_recovered_provider_is_polled_before_its_batch_is_given_up(system: System) -> None:
    batch_id = await open_batch(system, "running")
    system.provider.state.faults.clear()
    system.provider.state.stall("openai", None)

    system.age(10 * DAY)
    await system.run_schedule()
    await system.deliver_all()

    assert (await system.run_until_ended(batch_id)).status == "completed"


@STATES
async def test_a_batch_whose_deployment_is_gone_ends(
    system: System, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await open_batch(system, state)
    monkeypatch.setattr(Deployments, "get", lambda *_: None)

    await days(system, 2.2)

    ended = await system.retrieve(batch_id)
    assert ended.status == "expired"
    assert ended.errors is not None
    assert "is no longer in the gateway's configuration" in str(ended.errors.data[0].message)


async def test_stored_results_are_settled_even_if_the_deployment_is_gone(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await open_batch(system, "ended")
    system.provider.state.faults.clear()
    system.age(901)
    system.queue.messages.clear()
    [job] = system.select("SELECT id FROM jobs")
    await system.deliver(Message("job", job["id"]))
    monkeypatch.setattr(Deployments, "get", lambda *_: None)

    await system.deliver_all()

    assert (await system.retrieve(batch_id)).status == "completed"
    [usage] = system.select("SELECT model_group, cost FROM usage")
    assert usage["model_group"] == GROUP
    assert usage["cost"] > 0  # it was summed when the results were stored


@STATES
async def test_a_job_whose_polls_always_fail_ends(system: System, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = await open_batch(system, state)

    async def breaking(self: Deployments, deployment: Deployment, *_: Any, **__: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(Deployments, "call", breaking)
    system.age(2.1 * DAY)
    for _ in range(8):
        system.age(1_000)
        with contextlib.suppress(RuntimeError):
            await system.run_schedule()
        while system.queue.messages:
            with contextlib.suppress(RuntimeError):  # one message that fails holds up no other
                await system.deliver_all()

    monkeypatch.undo()
    assert (await system.retrieve(batch_id)).status == "expired"


@STATES
@pytest.mark.parametrize("cancelled", [False, True], ids=["open", "cancelling"])
async def test_an_admin_ends_a_batch_at_once(system: System, state: str, cancelled: bool) -> None:
    batch_id = await open_batch(system, state)
    dead(system)
    if cancelled:
        change(system, "UPDATE batches SET status = 'cancelling', cancelling_at = now()")
    async with system.gateway.store.session() as tables:
        await tables.batch_leases.claim(batch_id, "a worker that is at it", 75)

    ended = await system.call("POST", f"/batches/{batch_id}/end")

    assert ended["status"] == ("cancelled" if cancelled else "failed")
    assert [error["code"] for error in ended["errors"]["data"]] == ["batch_ended_by_admin"]
    assert await system.call("POST", f"/batches/{batch_id}/end") == ended, "asking twice is no error"
    async with system.gateway.store.session() as tables:
        assert await tables.jobs.open_deployments() == {}
    before = len(system.provider.log())
    await days(system, 0.2)
    assert (await system.retrieve(batch_id)).status == ended["status"]
    assert len(system.provider.log()) == before
    assert system.select("SELECT 1 FROM usage") == []


async def test_a_worker_that_holds_the_batch_ends_nothing_after_the_admin(system: System) -> None:
    batch_id = await open_batch(system, "running")
    for table in ("batches", "shards"):
        change(system, f"UPDATE {table} SET due_at = now() - interval '1 hour', leased_until = NULL")
    async with system.gateway.store.session() as tables:
        batch = await tables.batch_leases.claim(batch_id, "lease", 75)
        [one] = await tables.shards.of_batch(batch_id)
        shard = await tables.shard_leases.claim(one.id, "lease", 75)
        job = (await tables.jobs.open([one.id]))[one.id]
    assert batch is not None
    assert shard is not None
    await system.call("POST", f"/batches/{batch_id}/end")

    async with system.gateway.store.session() as tables:
        assert not await tables.jobs.running(job, "batch_other")
        assert await tables.batches.started(batch_id) is None
        assert not await tables.batches.end(batch, "completed", shard=shard)
        assert await tables.jobs.insert(ids.new("job"), shard, job.input_id, job.deployment_id) is None
        assert not await tables.batch_leases.release(batch, 5)
        assert not await tables.shard_leases.release([(shard, 5)])
    assert (await system.retrieve(batch_id)).status == "failed"


async def test_an_admin_ends_a_batch_that_a_worker_is_just_writing(system: System) -> None:
    batch_id = await open_batch(system, "running")
    async with await psycopg.AsyncConnection.connect(system._database_url) as worker, asyncio.TaskGroup() as tasks:
        await worker.execute("SELECT 1 FROM jobs FOR KEY SHARE")  # as a row of its usage does
        ending = tasks.create_task(system.call("POST", f"/batches/{batch_id}/end"))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not system.select(waiting):  # noqa: ASYNC110 (Postgres is asked)
            await asyncio.sleep(0)
        await worker.execute("UPDATE batches SET completed = 1")
        await worker.commit()

    assert (await ending)["status"] == "failed"
    assert system.select("SELECT state FROM jobs") == [{"state": "abandoned"}]


async def test_results_stored_too_late_are_not_used(system: System) -> None:
    await open_batch(system, "ended")
    [row] = system.select("SELECT id, batch_id FROM jobs")
    system.age(1_000)
    async with system.gateway.store.session() as tables:
        job = await tables.job_results.claim(row["id"], "lease", 960)
    assert job is not None
    await system.call("POST", f"/batches/{row['batch_id']}/end")
    async with system.gateway.store.session() as tables:
        assert await tables.job_results.stored(job, {}) == (False, False)
        assert not await tables.job_results.retry(job, "late", 5)
    assert (await system.retrieve(row["batch_id"])).output_file_id is None


async def test_a_job_is_not_settled_once_an_admin_has_ended_its_batch(system: System) -> None:
    batch_id = await open_batch(system, "ended")
    system.provider.state.faults.clear()
    system.age(901)
    system.queue.messages.clear()
    [row] = system.select("SELECT id, shard_id FROM jobs")
    await system.deliver(Message("job", row["id"]))
    async with system.gateway.store.session() as tables:
        shard = await tables.shard_leases.claim(row["shard_id"], "lease", 75)
        batch = (await tables.batches.of([batch_id]))[batch_id]
        job = (await tables.jobs.open([row["shard_id"]]))[row["shard_id"]]
    assert shard is not None
    await system.call("POST", f"/batches/{batch_id}/end")

    with pytest.raises(LeaseLost):
        await Settlement(system.gateway.store, system.queue).settle(batch, shard, job, None)

    assert system.select("SELECT 1 FROM usage") == []
    assert (await system.retrieve(batch_id)).output_file_id is None


# -- whose clock decides ----------------------------------------------------------------------------------------------


async def test_a_clock_that_is_ahead_does_not_make_a_job_seem_absent(system: System) -> None:
    """The row is a few seconds old: whatever this machine's clock says, no second job is sent."""
    system.provider.fail(Fault(kind="cut", route="batches.create", times=None))
    await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()
    for _ in range(8):
        system.age(11)
        await system.run_schedule()
        await system.deliver_all()
        [job] = system.select("SELECT state FROM jobs")
        assert job["state"] == "unknown"
    system.age(11)
    await system.run_schedule()
    await system.deliver_all()

    assert len(system.select("SELECT 1 FROM jobs WHERE state = 'absent'")) == 1


# -- what a provider asks us to wait ----------------------------------------------------------------------------------

YEAR = str(365 * DAY)
AGES = pytest.mark.parametrize("retry_after", [YEAR, "1e300", "9" * 5000, "nan", "-1", "Fri, 31 Dec 2100 23:59:59 GMT"])


@AGES
async def test_a_cooldown_is_no_longer_than_the_limit(system: System, retry_after: str) -> None:
    system.provider.fail(Fault(kind="rate_limit", route="batches.create", retry_after=retry_after))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()

    [row] = system.select("SELECT extract(epoch FROM cool_until - now())::float8 AS cooldown FROM jobs")
    assert 0 < row["cooldown"] <= submission.MAX_COOLDOWN_SECONDS
    system.age(submission.MAX_COOLDOWN_SECONDS)
    assert (await system.run_until_ended(batch.id)).status == "completed"


@AGES
async def test_a_search_waits_no_longer_than_the_limit(system: System, retry_after: str) -> None:
    system.provider.fail(Fault(kind="cut", route="batches.create"))
    system.provider.fail(Fault(kind="rate_limit", route="batches.list", times=None, retry_after=retry_after))
    await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()
    system.age(11)
    await system.deliver_all()
    await system.run_schedule()

    [row] = system.select("SELECT extract(epoch FROM due_at - now())::float8 AS wait FROM shards")
    assert row["wait"] <= submission.MAX_COOLDOWN_SECONDS


async def test_a_search_that_brings_nothing_comes_less_often_as_the_job_gets_older(system: System) -> None:
    system.provider.fail(Fault(kind="cut", route="batches.create"))
    system.provider.fail(Fault(kind="rate_limit", route="batches.list", times=None))
    await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()

    waits = []
    for age in (11, 989, 7_000):
        system.age(age)
        [shard] = system.select("SELECT id FROM shards")
        await system.deliver(Message("shard", shard["id"]))
        [row] = system.select("SELECT extract(epoch FROM due_at - now())::float8 AS wait FROM shards")
        waits.append(row["wait"])

    assert waits == pytest.approx([10, 100, 300], abs=5)


@AGES
async def test_an_input_waits_no_longer_than_the_limit(system: System, retry_after: str) -> None:
    system.provider.fail(Fault(kind="rate_limit", route="files.create", times=None, retry_after=retry_after))
    await system.upload(chat_lines(GROUP, 1))
    [message] = system.queue.messages
    system.queue.messages.clear()
    await system.deliver(message)

    [row] = system.select("SELECT extract(epoch FROM due_at - now())::float8 AS wait FROM inputs")
    assert 0 < row["wait"] <= 900
