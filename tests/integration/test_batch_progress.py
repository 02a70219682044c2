"""What `GET /batches/{id}` says of how a batch runs: what it waits for, its shards, and its attempts."""

import json

import openai.types

from local.provider import Fault
from local.provider.defects import Defects, Ending
from tests.support import postgres
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures", "tests.support.query_fixtures")

TWO, ONE = "gpt-4o-batch", "gpt-4.1-mini-batch"
"""A group with two deployments, and one with a single deployment."""


async def created(system: System, group: str = ONE, lines: int = 2) -> str:
    return (await system.create((await system.upload(chat_lines(group, lines), target_model_names=group)).id)).id


async def test_a_batch_that_runs_has_one_attempt_and_waits_for_nothing(system: System) -> None:
    system.provider.state.stall("openai", "in_progress")
    batch_id = await created(system)
    await system.deliver_all()

    batch = await system.retrieve(batch_id)

    assert batch.waiting_for is None
    assert batch.shards is not None
    assert batch.shards.model_dump() == {"total": 1, "waiting": 0, "running": 1, "ended": 0}
    assert batch.attempts is not None
    [attempt] = batch.attempts
    assert (attempt.shard, attempt.model, attempt.outcome, attempt.requests) == (0, ONE, "running", 2)
    assert attempt.submitted_at is not None
    assert batch.created_at <= attempt.created_at <= attempt.submitted_at
    assert (attempt.ended_at, attempt.error) == (None, None)


async def test_an_ended_batch_keeps_its_attempts(system: System) -> None:
    batch_id = await created(system)

    batch = await system.run_until_ended(batch_id)

    assert batch.shards is not None
    assert batch.shards.ended == 1
    assert batch.attempts is not None
    [attempt] = batch.attempts
    assert (attempt.outcome, attempt.error) == ("completed", None)
    assert attempt.ended_at is not None


async def test_a_refusal_is_an_attempt_with_what_the_provider_said(system: System) -> None:
    system.provider.fail(Fault(kind="refuse", account="azure-general", route="batches.create", message="not today"))
    system.provider.fail(Fault(kind="refuse", account="azure-special", route="batches.create", message="not today"))
    batch_id = await created(system, TWO)

    batch = await system.run_until_ended(batch_id)

    assert batch.status == "completed"
    assert batch.attempts is not None
    last, second, first = batch.attempts
    assert [one.outcome for one in (first, second, last)] == ["refused", "refused", "completed"]
    assert first.error is not None
    assert first.error.message == "The provider answered HTTP 400: not today"
    assert first.created_at <= second.created_at <= last.created_at


async def test_a_job_that_failed_has_its_providers_first_error(system: System) -> None:
    ending = Ending(state="failed", code="token_limit_exceeded", message="Enqueued token limit reached")
    system.provider.state.batches.defects["openai"] = Defects(ending=ending)
    batch_id = await created(system)
    for _ in range(4):
        await system.deliver_all()
        system.age(6)
        await system.run_schedule()

    batch = await system.retrieve(batch_id)

    assert batch.attempts is not None
    failed = batch.attempts[-1]
    assert failed.outcome == "failed"
    assert failed.error is not None
    assert failed.error.code == "token_limit_exceeded"
    assert batch.waiting_for is not None
    assert batch.waiting_for.reason == "cooldown"


async def test_an_unclear_submit_is_submitting_and_then_absent(system: System) -> None:
    system.provider.fail(Fault(kind="refuse", status=500, route="batches.create"))
    batch_id = await created(system)
    await system.deliver_all()
    batch = await system.retrieve(batch_id)
    assert batch.attempts is not None
    assert [one.outcome for one in batch.attempts] == ["submitting"]

    batch = await system.run_until_ended(batch_id)

    assert batch.attempts is not None
    assert [one.outcome for one in batch.attempts] == ["completed", "absent"]


async def test_a_batch_whose_input_is_not_there_yet_waits_for_it(system: System) -> None:
    system.provider.fail(Fault(kind="error", route="files.create", times=None))
    batch_id = await created(system)
    await system.deliver_all()

    batch = await system.retrieve(batch_id)

    assert batch.attempts == []
    assert batch.waiting_for is not None
    assert (batch.waiting_for.reason, batch.waiting_for.shards) == ("input", 1)
    assert batch.created_at <= batch.waiting_for.since <= batch.created_at + 60
    assert (await system.cancel(batch_id)).waiting_for is None
    assert (await system.retrieve(batch_id)).waiting_for is None, "it is not to run any more"


async def test_nothing_tells_where_a_batch_ran(system: System) -> None:
    system.provider.fail(Fault(kind="refuse", account="azure-general", route="batches.create"))
    batch_id = await created(system, TWO)
    await system.run_until_ended(batch_id)

    told = json.dumps(await system.call("GET", f"/batches/{batch_id}"))

    rows = system.select("SELECT id, deployment_id, provider_ref FROM jobs")
    assert rows
    for row in rows:
        for hidden in filter(None, row.values()):
            assert hidden not in told


async def test_only_a_retrieve_reads_the_attempts_and_has_an_old_status_asked_for_again(
    system: System, queries: list[str], database_url: str
) -> None:
    system.provider.state.stall("openai", "in_progress")
    batch_id = await created(system)
    await system.deliver_all()

    for seconds, statements in ((0, 1), (20, 2)):
        postgres.connection(database_url).execute(
            "UPDATE jobs SET submitted_at = submitted_at - make_interval(secs => %s), polled_at = NULL", (seconds,)
        )
        queries.clear()
        answer = await system.call("GET", f"/batches/{batch_id}")
        assert (len(queries), len(answer["attempts"])) == (statements, 1)
    [listed] = (await system.call("GET", "/batches?limit=1"))["data"]
    assert (listed["waiting_for"], listed["shards"], listed["attempts"]) == (None, None, None)


async def test_the_sdk_reads_a_batch_with_members_of_ours(system: System) -> None:
    batch_id = await created(system)
    await system.run_until_ended(batch_id)

    body = await system.call("GET", f"/batches/{batch_id}")

    batch = openai.types.Batch.model_validate(body, strict=True)
    assert batch.status == "completed"
    assert batch.model_dump()["attempts"] == body["attempts"]
