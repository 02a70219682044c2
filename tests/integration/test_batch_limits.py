"""Limits of keys, users and teams for batches: what open batches hold, and who is refused or has to wait."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from admin.app import create as create_admin_app
from batches.app import create as create_batches_app
from manifold import ids
from manifold.auth import key_hash
from manifold.gateway import Gateway
from manifold.jsonl.report import Report, UrlUse
from manifold.store.files import NewFile
from manifold.store.keys import Key
from manifold.store.reads import Reads
from manifold.store.teams import Team
from manifold.store.users import User
from tests.support import gateways
from tests.support.provider import chat_lines
from tests.support.system import CrashPoints, InMemoryQueue, System

pytest_plugins = ("tests.support.system_fixtures", "tests.support.query_fixtures")

KEY = "sk-the-key-of-batches"


class Client:
    """A batches app, and rows of files of any size for the holders of keys."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.http = http

    async def add_key(
        self, value: str = KEY, *, team: Team | None = None, user: User | None = None, **more: Any
    ) -> str:
        """A key with these limits, of this team and user."""
        async with self.gateway.store.transaction() as tables:
            if team and await tables.teams.get(team.id) is None:
                await tables.teams.insert(team)
            if user and (await Reads(tables.fetch_text, None).user(user.id)).seen is None:
                await tables.users.insert(user)
            owners: dict[str, Any] = {"team_id": team and team.id, "user_id": user and user.id}
            await tables.keys.insert(Key(id=f"key_{value}", token_hash=key_hash(value), name="k", **owners, **more))
        return value

    async def add_file(
        self, key: str = KEY, *, tokens: int | None = 100, requests: int = 10, output: int | None = None,
        group: str = "gpt-batch",
    ) -> str:  # fmt: skip
        """A file with so many estimated tokens and requests, which state a maximum output of `output` in all."""
        report = Report(
            bytes=4_000,
            lines=requests,
            longest_line=400,
            model=group,
            urls={"/v1/chat/completions": UrlUse(requests, (1,))},
            index=(0,),
            common=None,
            models=requests,
            kept_bytes=4_000,
            errors=(),
            error_count=0,
            input_tokens=None if tokens is None else (tokens,),
            output_tokens=None if tokens is None else (output or 0,),
            output_limits=None if output is None else requests,
        )
        file = NewFile(ids.new("file"), "batch", "in.jsonl", 4_000, [group], report.to_json())
        owner = await self.gateway.authenticate(key)
        async with self.gateway.store.session() as tables:
            await tables.files.insert(file, owner)
        return file.id

    async def create(self, key: str = KEY, file_id: str | None = None, **file: Any) -> httpx.Response:
        file_id = file_id or await self.add_file(key, **file)
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return await self.http.post("/batches", json=body, headers={"authorization": f"Bearer {key}"})

    async def created(self, key: str = KEY, **file: Any) -> str:
        """The id of a batch that is accepted."""
        answer = await self.create(key, **file)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def refused(self, key: str = KEY, **file: Any) -> tuple[int, str, str]:
        """Status, code and message of a batch that is refused."""
        answer = await self.create(key, **file)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]

    async def end(self, batch_id: str) -> None:
        assert (await self.http.post(f"/batches/{batch_id}/end")).status_code == 200


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Client]:
    gateway.queue = InMemoryQueue(CrashPoints())
    async with gateways.client(create_batches_app(gateway)) as http:
        yield Client(gateway, http)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def limit(url: str, table: str, **limits: Any) -> None:
    """Have all keys, users or teams have other limits."""
    assignments = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), v) for n, v in limits.items())
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("UPDATE {} SET {}").format(sql.Identifier(table), assignments))


@pytest.mark.parametrize(("of_key", "of_team", "rounds"), [(3, 1, 3), (0, 1, 0), (None, 1, 1), (None, None, 0)])
async def test_a_batch_retries_lines_as_its_key_says_else_its_team(
    client: Client, database_url: str, of_key: int | None, of_team: int | None, rounds: int
) -> None:
    await client.add_key(retry_failed_lines=of_key, team=Team(id="team", retry_failed_lines=of_team))
    await client.created()

    assert rows(database_url, "SELECT retry_rounds FROM batches") == [(rounds,)]


class TestEnqueuedTokensAndRequests:
    async def test_open_batches_hold_their_tokens_until_they_end(self, client: Client) -> None:
        await client.add_key(batch_enqueued_token_limit=250)
        first, _ = await client.created(), await client.created()

        answer = await client.create(tokens=51)

        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["code"], error["param"]) == (
            429,
            "rate_limit_error",
            "batch_enqueued_token_limit",
            None,
        )
        assert "limit exceeded for the key" in error["message"]
        assert "requires 51 tokens, but open batches hold 200 of 250" in error["message"]
        assert "in 24 h 0 min" in error["message"]
        assert answer.headers["retry-after"] == "300"
        await client.created(tokens=50)
        await client.end(first)
        await client.created(tokens=100)

    async def test_open_batches_hold_their_requests_until_they_end(self, client: Client) -> None:
        await client.add_key(batch_enqueued_request_limit=15, batch_enqueued_token_limit=10**9)
        first = await client.created(requests=10)

        status, code, message = await client.refused(requests=6)

        assert (status, code) == (429, "batch_enqueued_request_limit")
        assert "requires 6 requests, but open batches hold 10 of 15" in message
        await client.end(first)
        await client.created(requests=15)

    @pytest.mark.parametrize("unit", ["token", "request"])
    async def test_a_batch_that_no_waiting_helps(self, client: Client, database_url: str, unit: str) -> None:
        limits: dict[str, Any] = {f"batch_enqueued_{unit}_limit": 99, "batch_over_limit": "wait"}
        await client.add_key(**limits)

        answer = await client.create(tokens=100, requests=100)

        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "input_file_id")
        assert error["code"] == f"batch_enqueued_{unit}_limit"
        assert f"requires 100 {unit}s. All open batches of the key may have 99" in error["message"]
        assert rows(database_url, "SELECT id FROM batches") == []

    async def test_a_teams_and_a_users_limits_count_all_their_keys(self, client: Client) -> None:
        team, user = Team(id="blue", batch_enqueued_token_limit=100), User(id="ann", batch_enqueued_token_limit=100)
        await client.add_key("sk-of-blue-and-ann", team=team, user=user)
        await client.add_key("sk-of-blue", team=team)
        await client.add_key("sk-of-ann", user=user)
        await client.created("sk-of-blue-and-ann", tokens=80)

        assert "exceeded for the team" in (await client.refused("sk-of-blue", tokens=21))[2]
        assert "exceeded for the user" in (await client.refused("sk-of-ann", tokens=21))[2]
        await client.created("sk-of-blue", tokens=20)
        await client.created("sk-of-ann", tokens=20)
        assert "exceeded for the user" in (await client.refused("sk-of-blue-and-ann", tokens=1))[2]

    async def test_what_other_owners_hold_is_no_matter(self, client: Client) -> None:
        await client.add_key(batch_enqueued_token_limit=100)
        await client.add_key("sk-another-key", batch_enqueued_token_limit=100)

        await client.created("sk-another-key")
        await client.created(gateways.MASTER_KEY, tokens=10**12)
        await client.created()

    async def test_a_retry_of_a_create_takes_nothing_more(self, client: Client) -> None:
        await client.add_key(batch_enqueued_token_limit=100)
        body = {
            "input_file_id": await client.add_file(),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        headers = {"authorization": f"Bearer {KEY}", "idempotency-key": "once"}

        answers = [await client.http.post("/batches", json=body, headers=headers) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["id"] == answers[1].json()["id"]

    async def test_a_file_without_an_estimate_counts_by_its_bytes(self, client: Client) -> None:
        await client.add_key(batch_enqueued_token_limit=1_500)
        await client.created(tokens=None)

        assert "requires 1000 tokens, but open batches hold 1000" in (await client.refused(tokens=None))[2]

    async def test_a_caller_without_limits_of_batches_pays_nothing(self, client: Client, queries: list[str]) -> None:
        await client.add_key(rpm_limit=1, tpm_limit=1)
        file_id = await client.add_file()
        queries.clear()

        assert (await client.create(file_id=file_id)).status_code == 200

        assert [query for query in queries if "meters" in query or "held_for IS NULL" in query] == []


class TestAtOnce:
    @pytest.mark.parametrize(
        ("of_key", "of_team"),
        [
            ({"batch_enqueued_token_limit": 799}, {}),
            ({}, {"batch_enqueued_request_limit": 70}),
            ({"batch_enqueued_token_limit": 1_500}, {"batch_enqueued_token_limit": 700}),
            ({"max_budget": Decimal("0.00005249")}, {"batch_enqueued_token_limit": 2_000}),
        ],
    )
    async def test_twenty_creates_never_take_the_same_rest(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch, of_key: dict[str, Any], of_team: dict[str, Any]
    ) -> None:
        """100 tokens cost 0.0000075 dollars: there is room for seven, for the budget for six."""
        monkeypatch.setattr("manifold.prices.model_name", lambda deployment: "gpt-4o-mini")
        room = 6 if "max_budget" in of_key else 7
        async with AsyncExitStack() as stack:
            clients = []
            for _ in range(5):
                gateway = gateways.gateway(database_url)
                gateway.queue = InMemoryQueue(CrashPoints())
                stack.push_async_callback(gateway.store.close)
                clients.append(
                    Client(gateway, await stack.enter_async_context(gateways.client(create_batches_app(gateway))))
                )
            await clients[0].add_key(team=Team(id="blue", **of_team), **of_key)
            files = [await clients[0].add_file(group="mini-batch") for _ in range(20)]

            answers = await asyncio.gather(
                *(clients[number % 5].create(file_id=file_id) for number, file_id in enumerate(files))
            )

        assert sum(answer.status_code == 200 for answer in answers) == room
        assert rows(database_url, "SELECT count(*), sum(reserved_tokens) FROM batches") == [(room, room * 100)]
        assert {answer.status_code for answer in answers} == {200, 400 if "max_budget" in of_key else 429}


class TestChangesOfHolders:
    async def test_a_limit_below_what_is_outstanding(self, client: Client, database_url: str) -> None:
        await client.add_key(batch_enqueued_token_limit=300)
        open_batches = [await client.created() for _ in range(3)]
        limit(database_url, "api_keys", batch_enqueued_token_limit=150)

        assert "hold 300 of 150" in (await client.refused())[2]
        for batch_id in open_batches[:2]:
            await client.end(batch_id)
            assert (await client.refused(tokens=51))[0] == 429
        await client.created(tokens=50)

    async def test_a_regenerated_key_keeps_what_it_holds(self, client: Client) -> None:
        await client.add_key(batch_enqueued_token_limit=150)
        await client.created()
        async with gateways.client(create_admin_app(client.gateway)) as admin:
            again = (await admin.post("/key/regenerate", json={"key": KEY})).json()["key"]

        assert "hold 100 of 150" in (await client.refused(again))[2]
        await client.created(again, tokens=50)

    async def test_a_deleted_keys_batches_still_hold_what_is_their_teams(self, client: Client) -> None:
        team = Team(id="blue", batch_enqueued_token_limit=150)
        await client.add_key(team=team)
        batch_id = await client.created()
        async with gateways.client(create_admin_app(client.gateway)) as admin:
            assert (await admin.post("/key/delete", json={"keys": [KEY]})).status_code == 200
        await client.add_key("sk-the-next-key-of-blue", team=team)

        assert "hold 100 of 150" in (await client.refused("sk-the-next-key-of-blue"))[2]
        await client.end(batch_id)
        await client.created("sk-the-next-key-of-blue")


@pytest.fixture
def priced(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """`general` runs gpt-4o-mini, at batch prices of 0.075 and 0.30 dollars for a million tokens, `special` gpt-4o."""
    names = {"general": "gpt-4o-mini", "special": "gpt-4o"}
    monkeypatch.setattr("manifold.prices.model_name", lambda deployment: names.get(deployment.id, "unknown"))
    return client


class TestBudgets:
    async def test_a_batch_reserves_what_it_costs_at_the_dearest_deployment(
        self, priced: Client, database_url: str
    ) -> None:
        await priced.add_key(max_budget=Decimal(12), budget_duration="30d")
        first = await priced.created(tokens=4_000_000, output=1_000_000)
        assert rows(database_url, "SELECT reserved_cost FROM batches") == [(Decimal(10),)]

        status, code, message = await priced.refused(tokens=2_000_000)

        assert (status, code) == (400, "budget_exceeded")
        assert "budget of the key, $12 each 30d: $0.0000 are spent, open batches reserve $10.0000" in message
        assert "estimated at $2.5000 without its output, as lines do not state their maximum" in message
        await priced.end(first)
        await priced.created(tokens=2_000_000)

    async def test_a_batch_that_the_gateway_runs_reserves_what_completions_cost(
        self, priced: Client, database_url: str
    ) -> None:
        config = priced.gateway.config
        large = [one.executed_by("provider") for one in config.deployments]
        large = [replace(one, limits=one.limits._replace(fewest_requests=11)) for one in large]
        priced.gateway.config = replace(config, deployments=tuple(large))
        await priced.add_key(max_budget=Decimal(100))
        await priced.created(tokens=4_000_000, output=1_000_000, requests=10)
        await priced.created(tokens=4_000_000, output=1_000_000, requests=11)
        assert rows(database_url, "SELECT reserved_cost FROM batches ORDER BY created_at") == [
            (Decimal(20),),
            (Decimal(10),),
        ]

    async def test_what_was_spent_counts(self, priced: Client, database_url: str) -> None:
        await priced.add_key(team=Team(id="blue", max_budget=Decimal(3)))
        await priced.created(tokens=1)
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE meters SET spent = 2 WHERE subject = 'team:blue'")

        assert "budget of the team, $3: $2.0000 are spent" in (await priced.refused(tokens=1_000_000))[2]
        await priced.created(tokens=700_000)

    @pytest.mark.parametrize("spent", [3, 2])
    async def test_a_period_that_a_budget_is_given_begins_though_batches_are_refused(
        self, priced: Client, database_url: str, spent: int
    ) -> None:
        """The budget is used up, or leaves too little."""
        await priced.add_key(max_budget=Decimal(3))
        await priced.created(tokens=1)
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE meters SET spent = %s", (spent,))
        limit(database_url, "api_keys", budget_duration="1d")

        assert (await priced.refused(tokens=1_000_000))[1] == "budget_exceeded"
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE meters SET period_ends_at = period_ends_at - interval '1 day'")

        await priced.created(tokens=1_000_000)

    async def test_what_a_job_has_cost_is_no_longer_reserved(self, priced: Client, database_url: str) -> None:
        await priced.add_key(max_budget=Decimal(10))
        batch_id = await priced.created(tokens=4_000_000)
        with psycopg.connect(database_url) as connection:
            connection.execute(
                """INSERT INTO inputs (id, file_id, deployment_id) SELECT 'i', input_file_id, 'd' FROM batches;
                   INSERT INTO jobs (id, batch_id, input_id, deployment_id) SELECT 'j', id, 'i', 'd' FROM batches;
                   UPDATE meters SET spent = 3"""
            )
            connection.execute(
                """INSERT INTO usage (job_id, batch_id, deployment_id, model_group, requests, failed_requests,
                       input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost)
                   VALUES ('j', %s, 'd', 'g', 1, 0, 1, 0, 1, 0, 3)""",
                (batch_id,),
            )

        message = (await priced.refused(tokens=4_000_001))[2]

        assert "$3.0000 are spent, open batches reserve $2.0000" in message

    async def test_without_a_known_price_nothing_is_reserved(self, priced: Client, database_url: str) -> None:
        await priced.add_key(max_budget=Decimal("0.01"))

        await priced.created(tokens=10**9, group="mini-batch")

        assert rows(database_url, "SELECT reserved_cost FROM batches") == [(None,)]
        await priced.created(tokens=1_000)


class TestWaitingInTheCreate:
    async def test_a_batch_waits_only_if_every_limit_without_room_lets_it(
        self, client: Client, database_url: str
    ) -> None:
        team = Team(id="blue", batch_enqueued_token_limit=150)
        await client.add_key(team=team, batch_enqueued_token_limit=100, batch_over_limit="wait")
        await client.created()

        await client.created(tokens=50)
        status, _, message = await client.refused(tokens=51)

        assert held_for(database_url) == [None, f"key:key_{KEY}"]
        assert (status, "exceeded for the team" in message) == (429, True)

    async def test_what_waits_holds_no_tokens_but_its_cost(self, priced: Client, database_url: str) -> None:
        team = Team(id="blue", batch_enqueued_token_limit=10_000_000, max_budget=Decimal(10))
        await priced.add_key(team=team, batch_enqueued_token_limit=2_000_000, batch_over_limit="wait")
        await priced.add_key("sk-the-other-key", team=team)
        for _ in range(2):
            await priced.created(tokens=2_000_000)

        assert "open batches reserve $5.0000" in (await priced.refused("sk-the-other-key", tokens=4_000_001))[2]
        limit(database_url, "teams", max_budget=None)
        assert "hold 2000000 of 10000000" in (await priced.refused("sk-the-other-key", tokens=8_000_001))[2]

    async def test_nobody_overtakes_the_first_in_line(self, client: Client, database_url: str) -> None:
        await client.add_key(batch_enqueued_token_limit=100, batch_over_limit="wait")
        await client.created(tokens=50)
        await client.created(tokens=60)

        await client.created(tokens=1)

        subject = f"key:key_{KEY}"
        assert held_for(database_url) == [None, subject, subject]
        limit(database_url, "api_keys", batch_over_limit="refuse")
        assert "2 other batches wait for it already" in (await client.refused(tokens=1))[2]


async def create_with_key(system: System, count: int = 1, group: str = "gpt-4.1-mini-batch") -> str:
    """A batch of so many lines, through the functions, by the holder of `KEY`; returns its id."""
    own = {"authorization": f"Bearer {KEY}"}
    file = await system.upload(chat_lines(group, count), headers=own)
    body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str((await system.call("POST", "/batches", json=body, headers=own))["id"])


def held_for(url: str) -> list[str | None]:
    """For what each batch waits, in the order in which they were created."""
    return [row[0] for row in rows(url, "SELECT held_for FROM batches ORDER BY created_at, id")]


def jobs(url: str) -> int:
    return int(rows(url, "SELECT count(*) FROM jobs")[0][0])


async def test_a_retry_is_booked_on_the_key_whose_limits_have_room(system: System, database_url: str) -> None:
    async with gateways.client(create_batches_app(system.gateway)) as http:
        client = Client(system.gateway, http)
        team = Team(id="blue")
        await client.add_key(team=team, batch_enqueued_request_limit=3)
        await client.add_key("sk-the-other-key", team=team, batch_enqueued_request_limit=3)
        batch_id = await create_with_key(system, 3)
        await system.cancel(batch_id)
        await system.run_until_ended(batch_id)

        path, other = f"/batches/{batch_id}/retry", {"authorization": "Bearer sk-the-other-key"}
        answers = [await http.post(path, headers=other) for _ in range(2)]
        mine = await http.post(path, headers={"authorization": f"Bearer {KEY}"})
        admins = await http.post(path)

    assert [answer.status_code for answer in answers] == [200, 429]
    assert (mine.status_code, admins.status_code) == (200, 200)
    owners = rows(database_url, "SELECT key_id, team_id FROM batches WHERE retry_of IS NOT NULL ORDER BY created_at")
    assert owners == [("key_sk-the-other-key", "blue"), (f"key_{KEY}", "blue"), (f"key_{KEY}", "blue")]
    files = rows(
        database_url, "SELECT f.key_id FROM files f JOIN batches b ON b.input_file_id = f.id ORDER BY f.created_at"
    )
    assert [key_id for (key_id,) in files] == [f"key_{KEY}", *(key_id for key_id, _ in owners)]


class TestWaiting:
    """Batches of a key that may have ten requests in open batches, and has others wait."""

    @pytest.fixture
    async def line(self, system: System) -> Sequence[str]:
        """Three batches of 10, 8 and 2 requests: the last two wait."""
        async with gateways.client(create_batches_app(system.gateway)) as http:
            await Client(system.gateway, http).add_key(batch_enqueued_request_limit=10, batch_over_limit="wait")
        return [await create_with_key(system, count) for count in (10, 8, 2)]

    async def test_those_that_wait_start_when_others_have_ended(
        self, system: System, database_url: str, line: Sequence[str]
    ) -> None:
        subject = f"key:key_{KEY}"
        assert held_for(database_url) == [None, subject, subject]
        waiting = await system.retrieve(line[1])
        assert waiting.status == "validating"
        assert waiting.waiting_for is not None
        assert waiting.waiting_for.reason == "owner_limit"
        assert "open batches of the key leave no room" in waiting.waiting_for.message
        assert (await system.retrieve(line[0])).waiting_for is None

        ended = [await system.run_until_ended(batch_id, rounds=5) for batch_id in line]

        assert [(batch.status, batch.request_counts.completed) for batch in ended] == [
            ("completed", 10),
            ("completed", 8),
            ("completed", 2),
        ]
        assert held_for(database_url) == [None, None, None]
        [first_end, *starts] = [
            row[0]
            for row in rows(
                database_url,
                "SELECT coalesce(CASE total WHEN 10 THEN completed_at END, in_progress_at) FROM batches"
                " ORDER BY created_at, id",
            )
        ]
        assert min(starts) >= first_end

    async def test_a_lost_message_delays_those_that_wait_by_a_minute_or_two(
        self, system: System, line: Sequence[str]
    ) -> None:
        await system.call("POST", f"/batches/{line[0]}/end")
        system.queue.messages.clear()

        assert (await system.run_until_ended(line[1], rounds=6)).status == "completed"

    async def test_no_step_lets_one_start_before_there_is_room(
        self, system: System, database_url: str, line: Sequence[str]
    ) -> None:
        for message in system.queue.messages:
            if message.kind == "input":
                await system.deliver(message)
        for _ in range(3):
            for batch_id in line[1:]:
                await system.engine().advance(batch_id)
            system.age(1_000)

        assert jobs(database_url) == 0
        await system.engine().advance(line[0])
        assert jobs(database_url) == 1

    async def test_an_end_wakes_the_first_in_line_and_its_start_the_next(
        self, system: System, database_url: str, line: Sequence[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No time passes, and the schedule does not run."""
        monkeypatch.setattr("manifold.announcement.WOKEN_TOGETHER", 1)
        for message in system.queue.messages:
            if message.kind == "input":
                await system.deliver(message)
        await system.engine().advance(line[1])
        await system.engine().advance(line[2])
        system.queue.messages.clear()

        await system.call("POST", f"/batches/{line[0]}/end")
        await system.deliver_all()

        assert jobs(database_url) == 2

    async def test_a_batch_that_waits_can_be_cancelled(
        self, system: System, database_url: str, line: Sequence[str]
    ) -> None:
        await system.cancel(line[1])
        system.queue.messages.clear()

        assert (await system.retrieve(line[1])).waiting_for is None
        assert (await system.run_until_ended(line[1])).status == "cancelled"
        assert rows(database_url, f"SELECT id FROM jobs WHERE batch_id = '{line[1]}'") == []

    async def test_a_batch_that_waits_expires_with_its_window(self, system: System, line: Sequence[str]) -> None:
        system.queue.messages.clear()
        system.age(86_401)

        await system.engine().advance(line[1])

        assert (await system.retrieve(line[1])).status == "expired"

    async def test_others_pass_one_that_a_lowered_limit_can_never_take(
        self, system: System, database_url: str, line: Sequence[str]
    ) -> None:
        limit(database_url, "api_keys", batch_enqueued_request_limit=5)
        await system.call("POST", f"/batches/{line[0]}/end")

        assert (await system.run_until_ended(line[2])).status == "completed"
        assert (await system.retrieve(line[1])).status == "validating"

        limit(database_url, "api_keys", batch_enqueued_request_limit=None)
        assert (await system.run_until_ended(line[1])).status == "completed"
