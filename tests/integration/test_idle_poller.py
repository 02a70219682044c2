"""The poller sends no statement to Postgres while nothing is open, and misses nothing that a client makes meanwhile."""

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from batches import app as batches
from batches import poller
from batches.idleness import Idleness
from files import app as files
from manifold.activity import KEY, ActivityMark
from manifold.app import mark_activity
from manifold.errors import Unavailable
from manifold.storage import Storage
from tests.support.aws import BUCKET, Aws
from tests.support.clock import Clock
from tests.support.provider import chat_lines
from tests.support.system import Killed, System
from webhooks import app as webhooks

pytest_plugins = ("tests.support.system_fixtures", "tests.support.query_fixtures")

GROUP = "gpt-4.1-mini-batch"
MINUTE = 60.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedule(system: System, clock: Clock, queries: list[str], monkeypatch: pytest.MonkeyPatch) -> "Schedule":
    """The schedule of the real poller, and the real mark at moto, in the system's one gateway."""
    system.gateway.activity_mark = ActivityMark(Storage(BUCKET), clock)
    monkeypatch.setattr(poller, "gateway", system.gateway)
    monkeypatch.setattr(poller, "engine", system.engine)
    return Schedule(system, clock, queries, monkeypatch)


class Schedule:
    def __init__(self, system: System, clock: Clock, queries: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._system = system
        self._clock = clock
        self._queries = queries
        self._patch = monkeypatch
        self.new_environment()

    def new_environment(self) -> None:
        idleness = Idleness(self._system.gateway.activity_mark, self._clock)
        self._patch.setattr(poller, "idleness", lambda: idleness)

    async def run(self) -> int:
        """One run of the poller, a minute after the last; returns the number of its statements."""
        self._clock.now += MINUTE
        self._queries.clear()
        await poller.poll()
        return len(self._queries)

    async def until_resting(self) -> None:
        """Run until a run sends no statement: the seventh at the latest, and not the first."""
        assert await self.run() > 0
        assert 0 in [await self.run() for _ in range(6)]


async def test_nothing_is_asked_for_an_hour_and_no_connection_is_held(system: System, schedule: Schedule) -> None:
    assert all([await schedule.run() for _ in range(6)]), "for five minutes nothing must have been open"
    assert await schedule.run() == 0

    assert system.gateway.store.database._connection is None
    assert [await schedule.run() for _ in range(57)] == [0] * 57
    statements = [await schedule.run() for _ in range(3)]
    assert sorted(statements)[:2] == [0, 0], "one run in an hour"
    assert sum(statements) > 0


async def test_a_new_batch_has_the_next_run_read_postgres(system: System, schedule: Schedule) -> None:
    """Also where its message is lost."""
    await schedule.until_resting()
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    system.queue.messages.clear()
    system.age(20)

    assert await schedule.run() > 0

    assert batch.id in {message.id for message in system.queue.messages}
    for _ in range(30):
        await system.deliver_all()
        system.age(MINUTE)
        assert await schedule.run() > 0, "while it is open"
        if (await system.retrieve(batch.id)).status == "completed":
            break
    await system.deliver_all()
    await schedule.until_resting()


@pytest.mark.parametrize(
    "opened",
    [
        """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, expires_at, due_at)
           VALUES ('batch_1', 'file-1', '/v1/chat/completions', '24h', '{g}', now(), now() + interval '1 day')""",
        "INSERT INTO inputs (id, file_id, deployment_id, due_at) VALUES ('i', 'file-1', 'd', now() + interval '1 day')",
        "UPDATE files SET deleted_at = now() + interval '1 hour'",
        "UPDATE files SET deleted_at = now(), due_at = now() + interval '1 hour'",
    ],
)
async def test_while_anything_is_open_every_run_reads_postgres(system: System, schedule: Schedule, opened: str) -> None:
    system.select(
        """INSERT INTO files (id, purpose, filename, bytes, status)
           VALUES ('file-1', 'batch', 'in.jsonl', 1, 'processed') RETURNING id"""
    )
    system.select(f"{opened} RETURNING 1")

    assert all([await schedule.run() for _ in range(10)])


async def test_a_pending_upload_and_a_pending_event_are_open(system: System, schedule: Schedule) -> None:
    body = {"filename": "in.jsonl", "purpose": "batch", "bytes": 5, "mime_type": "application/jsonl"}
    upload = await system.call_files("POST", "/uploads", json=body)
    assert all([await schedule.run() for _ in range(10)])
    await system.call_files("POST", f"/uploads/{upload['id']}/cancel")
    await system.deliver_all()
    system.age(3 * 3600)
    for _ in range(3):
        await schedule.run()
        await system.deliver_all()
    webhook = {"url": "https://gone.invalid/", "events": ["batch.cancelled"]}
    await system.call_webhooks("POST", "/webhooks", json=webhook)
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.cancel(batch.id)
    await system.deliver_all()
    assert all([await schedule.run() for _ in range(10)])
    system.select("UPDATE deliveries SET status = 'failed', due_at = NULL RETURNING 1")
    await schedule.until_resting()


async def test_a_request_that_dies_after_its_commit_is_found_by_the_next_run(
    system: System, schedule: Schedule
) -> None:
    file = await system.upload(chat_lines(GROUP, 1))
    await system.deliver_all()
    await schedule.until_resting()
    system.crash_points.reached.clear()
    await system.create(file.id)
    commit = system.crash_points.reached.index("after commit") + 1
    await system.gateway.store.close()
    system.select("DELETE FROM batches RETURNING 1")
    system.queue.messages.clear()
    system.crash_points.reached.clear()
    system.crash_points.kill_at = commit
    with pytest.raises(Killed):
        await system.create(file.id)
    system.crash_points.kill_at = None
    system.age(20)

    assert await schedule.run() > 0
    assert [message.kind for message in system.queue.messages] == ["batch"]


async def test_the_mark_comes_before_the_change(system: System, schedule: Schedule) -> None:
    """A request that dies at the mark has changed nothing."""
    file = await system.upload(chat_lines(GROUP, 1))

    class Dying(ActivityMark):
        async def write(self) -> None:
            raise Killed("at the mark")

    system.gateway.activity_mark = Dying(Storage(BUCKET))
    with pytest.raises(Killed):
        await system.create(file.id)

    assert system.select("SELECT 1 FROM batches") == []


async def test_a_read_does_not_end_the_rest(system: System, schedule: Schedule) -> None:
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.cancel(batch.id)
    await system.deliver_all()
    await schedule.until_resting()

    await system.retrieve(batch.id)
    await system.call("GET", "/batches")

    assert await schedule.run() == 0


async def test_a_new_environment_of_the_poller_reads_postgres(schedule: Schedule) -> None:
    await schedule.until_resting()
    schedule.new_environment()
    await schedule.until_resting()


async def test_a_database_that_takes_some_seconds_to_resume_is_waited_for(
    system: System, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, connect = 2, system.gateway.store.database._connect

    async def refuses() -> object:
        nonlocal failing
        failing -= 1
        if failing >= 0:
            raise Unavailable("The database cannot be reached. Try again shortly.")
        return await connect()

    monkeypatch.setattr(system.gateway.store.database, "_connect", refuses)
    monkeypatch.setattr(poller, "_PAUSE_SECONDS", 0.01)

    assert await schedule.run() > 0
    assert failing == -1


def _routes() -> Iterator[APIRoute]:
    for router in (files.reads, files.changes, batches.reads, batches.changes, webhooks.reads, webhooks.changes):
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def test_every_route_that_makes_work_writes_the_mark() -> None:
    """Routes of functions that write no row with a due time have none: completions and the admin's."""
    routes = list(_routes())
    assert len(routes) > 20
    for route in routes:
        marks = mark_activity in [one.dependency for one in route.dependencies]
        assert marks == (route.methods not in ({"GET"}, {"HEAD"})), route.path


async def test_the_mark_is_one_object(aws: Aws) -> None:
    first = ActivityMark(Storage(BUCKET))
    assert await first.read() is None
    await first.write()
    seen = await first.read()
    await ActivityMark(Storage(BUCKET)).write()
    assert await first.read() not in (None, seen)
    assert aws.keys() == [KEY]
