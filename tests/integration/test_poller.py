"""Runs of the poller with many jobs: every deployment has its turn, and writes and messages are sent together."""

import asyncio
from collections import Counter
from collections.abc import MutableMapping, Sequence

import pytest

from batches import poll_results, polling
from manifold.providers import Endpoint, JobStatus
from manifold.providers.openai.batches import OpenAIBatches
from manifold.queue import Message
from manifold.store.job_changes import JobPoll
from manifold.store.jobs import Jobs
from manifold.store.shards import Counts
from tests.support import postgres
from tests.support.crashes import at_every_step, killed_at
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures", "tests.support.query_fixtures")

LARGE, SMALL = "gpt-4o-batch", "gpt-4.1-mini-batch"
GONE = "a deployment that config.yaml no longer has"


def deployment(system: System, group: str) -> str:
    return system.gateway.deployments.of([group])[0].id


def running(system: System, deployment_id: str, count: int, name: str) -> None:
    """Write batches whose jobs run at this deployment: due, the first one longest, and never polled."""
    connection = postgres.connection(system._database_url)
    parameters = {"deployment": deployment_id, "count": count, "name": name}
    for statement in (
        """INSERT INTO files (id, purpose, filename, bytes, status, groups)
           VALUES ('file-' || %(name)s, 'batch', 'in.jsonl', 5, 'processed', '{group}')""",
        """INSERT INTO inputs (id, file_id, deployment_id, state, provider_ref, due_at)
           VALUES ('input_' || %(name)s, 'file-' || %(name)s, %(deployment)s, 'ready', 'file-there', NULL)""",
        """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, total, in_progress_at,
               expires_at, due_at)
           SELECT 'batch_' || %(name)s || n, 'file-' || %(name)s, '/v1/chat/completions', '24h', '{group}',
               'in_progress', 2, now(), now() + interval '1 day', now() + interval '2 days'
           FROM generate_series(1, %(count)s) n""",
        """INSERT INTO shards (id, batch_id, number, requests, bytes, state, due_at)
           SELECT 'shard_' || %(name)s || n, 'batch_' || %(name)s || n, 0, 2, 5, 'running',
               now() - interval '1 hour' + n * interval '1 ms'
           FROM generate_series(1, %(count)s) n""",
        """INSERT INTO jobs (id, batch_id, shard_id, input_id, deployment_id, state, provider_ref, submitted_at,
               requests)
           SELECT 'job_' || %(name)s || n, 'batch_' || %(name)s || n, 'shard_' || %(name)s || n, 'input_' || %(name)s,
               %(deployment)s, 'running', 'ref_' || %(name)s || n, now(), 2
           FROM generate_series(1, %(count)s) n""",
    ):
        connection.execute(statement, parameters)


class Provider:
    """Answers in place of every adapter: the jobs in progress, as far as `answers` says; notes who was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.status = JobStatus("in_progress", completed=1)
        self.answers: int | None = None
        monkeypatch.setattr(OpenAIBatches, "poll", self._poll)

    async def _poll(self, at: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        self.asked.update(refs)
        statuses.update(dict.fromkeys(refs[: self.answers], self.status))
        await asyncio.sleep(0)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    return Provider(monkeypatch)


def leased(system: System) -> int:
    return len(system.select("SELECT 1 FROM shards WHERE lease IS NOT NULL"))


def due(system: System) -> set[str]:
    return {row["id"] for row in system.select("SELECT batch_id AS id FROM shards WHERE due_at <= now()")}


async def test_a_deployment_with_one_job_has_its_turn_beside_one_with_5_000(
    system: System, provider: Provider, queries: list[str]
) -> None:
    running(system, deployment(system, LARGE), 5_000, "large")
    running(system, deployment(system, SMALL), 1, "small")

    assert await system.engine().poll_due(100) == 100
    assert provider.asked["ref_small1"] == 1, "also where not all can be claimed"
    assert provider.asked["ref_large1"] == 1, "what has been due longest comes first"

    queries.clear()
    assert await system.engine().poll_due(10_000) == 4_901

    assert set(provider.asked.values()) == {1}
    assert len(provider.asked) == 5_001
    assert len(queries) < 30, "nearly all is written in tens of transactions, and released at once"
    assert system.select("SELECT count(*) FROM batches WHERE completed = 1") == [{"count": 5_001}]
    assert leased(system) == 0


@pytest.mark.parametrize("state", ["in_progress", "completed"])
async def test_the_statements_of_a_run_do_not_grow_with_its_jobs(
    system: System, provider: Provider, queries: list[str], state: str
) -> None:
    counted = []
    if state == "completed":
        provider.status = JobStatus("completed", completed=2, output_ref="file-output")
    for count in (2, 300):
        running(system, deployment(system, LARGE), count, f"of{count}-")
        queries.clear()
        assert await system.engine().poll_due(1_000) == count
        counted.append(len(queries))

    assert counted[0] == counted[1] <= 10
    kind = "shard" if state == "in_progress" else "job"
    assert Counter(message.kind for message in system.queue.messages) == {kind: 302}


async def test_two_pollers_ask_for_each_job_once(system: System, provider: Provider) -> None:
    running(system, deployment(system, LARGE), 200, "large")
    running(system, deployment(system, SMALL), 100, "small")
    other = System(system._database_url, system.provider, system._aws)

    claimed = await asyncio.gather(*(one.engine().poll_due(200) for one in (system, other)))
    await other.close()

    assert sum(claimed) + await system.engine().poll_due(1_000) == 300
    assert set(provider.asked.values()) == {1}
    assert len(provider.asked) == 300
    assert leased(system) == 0


async def test_what_a_deployment_had_no_time_for_is_polled_first_in_the_next_run(
    system: System, provider: Provider
) -> None:
    provider.answers = 10
    running(system, deployment(system, LARGE), 30, "large")

    for _ in range(3):
        await system.engine().poll_due(1_000)
        system.age(1)

    assert due(system) == set()
    assert Counter(provider.asked.values()) == {1: 10, 2: 10, 3: 10}
    assert len(system.queue.messages) == 30, "no message asks a worker for what the poller could not ask"


async def test_a_deployment_that_answers_nothing_wakes_no_worker(system: System, provider: Provider) -> None:
    provider.answers = 0
    running(system, deployment(system, LARGE), 30, "large")

    await system.engine().poll_due(1_000)

    assert (due(system), system.queue.messages, leased(system)) == (set(), [], 0)


@pytest.mark.parametrize("answers", [0, 1])
async def test_a_cancel_that_meets_the_poller_wakes_a_worker(
    system: System, provider: Provider, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    """Its message found the lease taken, so the poller sends it again, also for a batch without an answer."""
    running(system, deployment(system, LARGE), 3, "large")
    answer, provider.answers = provider._poll, answers

    async def cancelling(at: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await answer(at, refs, statuses)
        await system.cancel("batch_large3")
        system.queue.messages.clear()

    monkeypatch.setattr(OpenAIBatches, "poll", staticmethod(cancelling))
    await system.engine().poll_due(10)

    assert Message("shard", "shard_large3") in system.queue.messages
    assert Message("shard", "shard_large2") not in system.queue.messages
    assert "batch_large3" in due(system)


async def test_a_hung_deployment_costs_only_its_own(
    system: System, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = provider._poll

    async def hanging(at: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await (asyncio.Event().wait() if refs[0].startswith("ref_small") else answer(at, refs, statuses))

    monkeypatch.setattr(OpenAIBatches, "poll", staticmethod(hanging))
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.5)
    running(system, deployment(system, SMALL), 100, "small")
    running(system, deployment(system, LARGE), 700, "large")

    await system.engine().poll_due(10_000)

    assert len(provider.asked) == 700
    assert leased(system) == 0


async def test_overdue_batches_end_and_those_of_an_unknown_deployment_are_passed_over(
    system: System, provider: Provider
) -> None:
    running(system, GONE, 3, "gone")
    running(system, deployment(system, LARGE), 3, "large")
    overdue = "expires_at = now() - interval '3 days', overdue_at = now() - interval '2 hours', due_at = now()"
    postgres.connection(system._database_url).execute(
        f"UPDATE batches SET {overdue} WHERE id IN ('batch_gone1', 'batch_large1')".encode()
    )

    assert await system.engine().poll_due(10) == 6

    assert set(provider.asked) == {"ref_large1", "ref_large2", "ref_large3"}
    system.age(20)
    await system.run_schedule()
    await system.deliver_all()
    ended = system.select("SELECT id FROM batches WHERE status = 'expired'")
    assert {row["id"] for row in ended} == {"batch_gone1", "batch_large1"}
    assert leased(system) == 0


async def test_a_job_that_cannot_be_written_holds_up_no_other(
    system: System, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(system, deployment(system, LARGE), 40, "large")
    polled = Jobs.polled

    async def failing(self: Jobs, polls: Sequence[JobPoll]) -> None:
        await polled(self, polls)
        if "job_large7" in {poll.job_id for poll in polls}:
            raise RuntimeError("a row that Postgres does not take")

    monkeypatch.setattr(Jobs, "polled", failing)
    monkeypatch.setattr(poll_results, "WRITTEN_TOGETHER", 25)
    await system.engine().poll_due(100)

    assert system.select("SELECT batch_id FROM jobs WHERE polls <> 1") == [{"batch_id": "batch_large7"}]
    assert system.select("SELECT id FROM batches WHERE completed = 0") == [{"id": "batch_large7"}]
    assert leased(system) == 0


async def test_counts_of_several_batches_are_written_as_each_says(system: System) -> None:
    running(system, GONE, 3, "b")
    async with system.gateway.store.session() as tables:
        await tables.shards.progress([Counts(f"shard_b{number}", 2, number - 1, 0) for number in (1, 2, 3)])

    rows = system.select("SELECT id, completed FROM batches ORDER BY id")
    assert [row["completed"] for row in rows] == [0, 1, 2]


async def test_a_poller_killed_between_any_two_steps_loses_nothing(system: System) -> None:
    async def scenario(step: int) -> bool:
        files = [await system.upload(chat_lines(group, 1)) for group in (SMALL, LARGE)]
        batches = [await system.create(file.id) for file in files for _ in range(2)]
        await system.deliver_all()
        system.queue.messages.clear()
        system.age(600)
        died = await killed_at(system, step, lambda: system.engine().poll_due(10))
        for batch in batches:
            assert (await system.run_until_ended(batch.id)).status == "completed"
        assert len(system.jobs_at_providers()) == len(system.select("SELECT * FROM usage")) == 4
        assert leased(system) == 0
        return died

    assert await at_every_step(system, scenario) >= 10
