"""Open batches go on when their database gets shards (migration 0013), also while old code still runs."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from local.provider import Simulator
from manifold import ids
from manifold.jsonl.check import Check
from manifold.providers import Input, Job
from manifold.providers.registry import close_providers
from manifold.store import migrations
from manifold.store.files import storage_key
from tests.support.aws import Aws
from tests.support.provider import chat_lines, input_of
from tests.support.system import ENDED, FAST_PACE, System

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")

GROUP, LINES = "gpt-4.1-mini-batch", 2
NEW = "0013_shards.sql"
OLD_INSERT = """INSERT INTO jobs (id, batch_id, input_id, deployment_id)
    SELECT %(id)s, id, %(input)s, %(deployment)s FROM batches
    WHERE id = %(batch)s AND status = 'validating' AND lease = %(lease)s FOR UPDATE RETURNING id"""
OLD_ENSURE = """INSERT INTO inputs (id, file_id, deployment_id)
    SELECT * FROM unnest(%(ids)s::text[], array_fill(%(file)s::text, ARRAY[1]), %(deployments)s::text[])
    ON CONFLICT (file_id, deployment_id) WHERE state <> 'discarded' DO UPDATE
    SET state = 'pending', attempts = 0, error = NULL, due_at = now(), updated_at = now()
    WHERE inputs.state = 'failed' AND inputs.updated_at < now() - interval '30 seconds' RETURNING id"""


class OldDatabase:
    """A database before shards, with what old code wrote: each method adds rows and returns an id."""

    def __init__(self, connection: psycopg.AsyncConnection, system: System) -> None:
        self.system = system
        self._connection = connection

    async def sql(self, query: str, **parameters: object) -> list[tuple[object, ...]]:
        cursor = await self._connection.execute(query.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def migrate(self) -> None:
        await migrations.apply(self._connection)

    @property
    def deployment_id(self) -> str:
        [deployment] = self.system.gateway.deployments.of([GROUP])
        return deployment.id

    async def batch(self, status: str = "validating", *, since: int = 60) -> str:
        """A batch of a file that is at its provider, created `since` seconds ago."""
        content = chat_lines(GROUP, LINES)
        file_id, input_id, batch_id = ids.new("file"), ids.new("input"), ids.new("batch")
        await self.system.gateway.storage.put(storage_key(file_id), content)
        await self.sql(
            """INSERT INTO files (id, purpose, filename, bytes, status, groups, report)
               VALUES (%(id)s, 'batch', 'in.jsonl', %(bytes)s, 'processed', %(groups)s, %(report)s)""",
            id=file_id, bytes=len(content), groups=[GROUP],
            report=psycopg.types.json.Jsonb(Check.whole(content).to_json()),
        )  # fmt: skip
        ref = await self._prepared(input_of(chat_lines("gpt-4.1-mini", LINES), input_id))
        await self.sql(
            """INSERT INTO inputs (id, file_id, deployment_id, state, provider_ref, due_at)
               VALUES (%(id)s, %(file)s, %(deployment)s, 'ready', %(ref)s, NULL)""",
            id=input_id, file=file_id, deployment=self.deployment_id, ref=ref,
        )  # fmt: skip
        await self.sql(
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, total, created_at,
                   expires_at)
               VALUES (%(id)s, %(file)s, '/v1/chat/completions', '24h', %(groups)s, %(status)s, %(total)s,
                   now() - make_interval(secs => %(since)s), now() + make_interval(secs => 86400 - %(since)s))""",
            id=batch_id, file=file_id, groups=[GROUP], status=status, total=LINES, since=since,
        )  # fmt: skip
        return batch_id

    async def job(self, batch_id: str, state: str, *, at_provider: bool) -> str:
        """A job in this state."""
        job_id = ids.new("job")
        [(input_id, ref)] = await self.sql(
            """SELECT i.id, provider_ref FROM inputs i JOIN batches b ON b.input_file_id = i.file_id
               WHERE b.id = %(id)s""",
            id=batch_id,
        )
        submitted = await self._submitted(job_id, str(ref)) if at_provider else None
        await self.sql(
            """INSERT INTO jobs (id, batch_id, input_id, deployment_id, state, provider_ref, submitted_at, lasting,
                   cool_until, status, created_at)
               VALUES (%(id)s, %(batch)s, %(input)s, %(deployment)s, %(state)s, %(ref)s,
                   CASE WHEN %(state)s = 'running' THEN now() END, false,
                   CASE WHEN %(state)s = 'refused' THEN now() + interval '10 seconds' END, NULL,
                   now() - interval '50 seconds')""",
            id=job_id, batch=batch_id, input=input_id, deployment=self.deployment_id, state=state,
            ref=(submitted or "not-there") if state == "running" else None,
        )  # fmt: skip
        return job_id

    async def _prepared(self, data: Input) -> str | None:
        calls, deployment = self.system.gateway.deployments, self.system.gateway.deployments.of([GROUP])[0]
        return (await calls.call(deployment, lambda provider, at: provider.prepare(at, data))).ref

    async def _submitted(self, job_id: str, ref: str) -> str:
        calls, deployment = self.system.gateway.deployments, self.system.gateway.deployments.of([GROUP])[0]
        job = Job(job_id, ref, "/v1/chat/completions", "24h", 0)
        return await calls.call(deployment, lambda provider, at: provider.submit(at, job))


@pytest.fixture
async def old(
    empty_database_url: str, simulated_provider: Simulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OldDatabase]:
    simulated_provider.state.batches.pace = FAST_PACE
    system = System(empty_database_url, simulated_provider, aws)
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "names", lambda names=migrations.names: [one for one in names() if one < NEW])
            await migrations.apply(connection)
        yield OldDatabase(connection, system)
    await system.close()
    await close_providers()


async def assert_each_ran_once(old: OldDatabase, outcomes: dict[str, str]) -> None:
    """Run each of these batches until it ended so, with one job at the provider at most, and nothing left open."""
    system = old.system
    for batch_id, outcome in outcomes.items():
        assert (await system.run_until_ended(batch_id)).status == outcome, batch_id
    completed = [batch_id for batch_id, outcome in outcomes.items() if outcome == "completed"]
    usage = [row["batch_id"] for row in system.select(f"SELECT batch_id FROM usage WHERE requests = {LINES}")]
    assert sorted(usage) == sorted(completed)
    assert system.select("SELECT 1 FROM shards WHERE state <> 'ended'") == []
    assert system.select(
        "SELECT 1 FROM jobs WHERE state NOT IN ('settled', 'refused', 'absent', 'abandoned') OR shard_id IS NULL"
    ) == []  # fmt: skip


async def test_open_batches_in_every_state_end_with_one_job_each(old: OldDatabase) -> None:
    states = ("submitting", "unknown", "running")
    new, refused, overdue = await old.batch(), await old.batch(), await old.batch("in_progress", since=86400 * 2 + 3601)
    await old.job(refused, "refused", at_provider=False)
    open_batches = [await old.batch("in_progress" if state == "running" else "validating") for state in states]
    for batch_id, state in zip(open_batches, states, strict=True):
        await old.job(batch_id, state, at_provider=True)
    not_there = await old.batch()
    await old.job(not_there, "unknown", at_provider=False)
    await old.sql("UPDATE batches SET overdue_at = now() - interval '3601 seconds' WHERE id = %(id)s", id=overdue)
    await old.job(overdue, "running", at_provider=False)

    await old.migrate()

    completed = [new, refused, *open_batches, not_there]
    await assert_each_ran_once(old, dict.fromkeys(completed, "completed") | {overdue: "expired"})
    assert len(old.system.jobs_at_providers()) == len(completed)


async def test_jobs_whose_results_are_fetched_or_stored_are_settled(old: OldDatabase) -> None:
    batch_ids = [await old.batch("in_progress") for _ in range(2)]
    for batch_id in batch_ids:
        await old.job(batch_id, "running", at_provider=True)
    jobs = {job.id: job for job in old.system.jobs_at_providers()}
    for job_id, ref in await old.sql("SELECT id, provider_ref FROM jobs"):
        job = jobs[str(ref)]
        while job.state not in ENDED:
            old.system.provider.state.batches.page("openai", None, 10)
        await old.sql(
            """UPDATE jobs SET state = 'ended', outcome = 'completed', output_ref = %(output)s,
                   output_file_id = 'file-' || id, answers = 2, due_at = now() WHERE id = %(id)s""",
            id=job_id, output=job.output_file_id,
        )  # fmt: skip
    await old.sql("UPDATE batches SET status = 'finalizing', finalizing_at = now()")
    await old.sql(
        """UPDATE jobs SET state = 'stored', due_at = NULL, output_ref = NULL, output_file_id = NULL, results = '{
               "usage": {"requests": 2, "failed_requests": 0, "input_tokens": 1, "cached_tokens": 0,
                         "output_tokens": 1, "reasoning_tokens": 0}}'
           WHERE batch_id = %(id)s""",
        id=batch_ids[1],
    )

    await old.migrate()

    await assert_each_ran_once(old, dict.fromkeys(batch_ids, "completed"))
    assert len(old.system.jobs_at_providers()) == 2


async def test_batches_that_are_being_cancelled_end_as_cancelled(old: OldDatabase) -> None:
    old.system.provider.state.stall("openai", "in_progress")
    without, running, unknown = [await old.batch("cancelling") for _ in range(3)]
    await old.sql("UPDATE batches SET cancelling_at = now()")
    await old.job(running, "running", at_provider=True)
    await old.job(unknown, "unknown", at_provider=True)

    await old.migrate()

    await assert_each_ran_once(old, dict.fromkeys([without, running, unknown], "cancelled"))
    assert [job.state for job in old.system.jobs_at_providers()] == ["cancelled"] * 2


async def test_old_code_submits_nothing_that_new_code_has_planned(old: OldDatabase) -> None:
    batch_id = await old.batch()
    await old.migrate()
    system = old.system
    system.provider.state.stall("openai", "in_progress")
    await system.step(batch_id)
    await old.sql("UPDATE batches SET status = 'validating', lease = 'of old code' WHERE id = %(id)s", id=batch_id)

    assert (
        await old.sql(OLD_INSERT, id="job_old", batch=batch_id, lease="of old code", **await _of(old, batch_id)) == []
    )

    assert system.select("SELECT count(*) AS jobs FROM jobs") == [{"jobs": 1}]


@pytest.mark.parametrize("refused", [False, True])
async def test_a_job_that_old_code_writes_after_the_migration_is_the_one_of_its_batch(
    old: OldDatabase, refused: bool
) -> None:
    batch_id = await old.batch()
    await old.job(batch_id, "refused", at_provider=False)
    await old.migrate()
    await old.sql("UPDATE batches SET lease = 'of old code' WHERE id = %(id)s", id=batch_id)
    made = await old.sql(OLD_INSERT, id="job_old", batch=batch_id, lease="of old code", **await _of(old, batch_id))
    assert made == [("job_old",)]
    if refused:
        await old.sql("UPDATE jobs SET state = 'refused', cool_until = now() WHERE id = 'job_old'")
    else:
        [ref] = [str(ref) for (ref,) in await old.sql("SELECT provider_ref FROM inputs")]
        submitted = await old._submitted("job_old", ref)
        await old.sql(
            """UPDATE jobs SET state = 'running', provider_ref = %(ref)s, submitted_at = now()
               WHERE id = 'job_old'""",
            ref=submitted,
        )
        await old.sql("UPDATE batches SET status = 'in_progress', in_progress_at = now()")
    await old.sql("UPDATE batches SET lease = NULL, due_at = now()")

    await assert_each_ran_once(old, {batch_id: "completed"})
    assert len(old.system.jobs_at_providers()) == 1


async def test_a_batch_that_old_code_ends_after_the_migration_leaves_no_shard_open(old: OldDatabase) -> None:
    batch_id = await old.batch("in_progress")
    await old.job(batch_id, "running", at_provider=True)
    await old.migrate()
    await old.sql("UPDATE jobs SET state = 'settled', outcome = 'completed'")
    await old.sql("UPDATE batches SET status = 'completed', completed_at = now(), due_at = NULL, lease = NULL")

    for _ in range(5):
        old.system.age(60)
        await old.system.run_schedule()
        await old.system.deliver_all()

    assert old.system.select("SELECT state, outcome FROM shards") == [{"state": "ended", "outcome": "completed"}]
    assert (await old.system.retrieve(batch_id)).status == "completed"


async def test_old_code_makes_a_failed_input_pending_again(old: OldDatabase) -> None:
    await old.batch()
    await old.migrate()
    await old.sql("UPDATE inputs SET state = 'failed', updated_at = now() - interval '1 minute'")
    [(file_id, input_id, deployment_id)] = await old.sql("SELECT file_id, id, deployment_id FROM inputs")

    again = await old.sql(OLD_ENSURE, ids=["input_new"], file=file_id, deployments=[deployment_id])

    assert again == [(input_id,)]
    assert await old.sql("SELECT state FROM inputs") == [("pending",)]


async def _of(old: OldDatabase, batch_id: str) -> dict[str, object]:
    [(input_id, deployment_id)] = await old.sql(
        """SELECT i.id, deployment_id FROM inputs i JOIN batches b ON b.input_file_id = i.file_id
           WHERE b.id = %(id)s""",
        id=batch_id,
    )
    return {"input": input_id, "deployment": deployment_id}
