"""The limits of keys, users and teams for completions, and what is recorded of each call."""

import asyncio
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from local.provider import Fault
from manifold.auth import key_hash
from manifold.store import Store
from manifold.store.keys import Key
from manifold.store.reads import Reads
from manifold.store.teams import Team
from manifold.store.users import User
from tests.support.completions_app import HELLO, CompletionsApp

pytest_plugins = ("tests.support.completions_app", "tests.support.query_fixtures")

KEY = "sk-the-key-that-is-limited"


async def add_key(
    completions_app: CompletionsApp,
    value: str = KEY,
    *,
    team: Team | None = None,
    user: User | None = None,
    **limits: Any,
) -> str:
    """A key with these limits, of this team and user."""
    async with completions_app.gateway.store.transaction() as tables:
        if team and await tables.teams.get(team.id) is None:
            await tables.teams.insert(team)
        if user and (await Reads(tables.fetch_text, None).user(user.id)).seen is None:
            await tables.users.insert(user)
        ids: dict[str, Any] = {"team_id": team and team.id, "user_id": user and user.id}
        await tables.keys.insert(Key(id=f"key_{value}", token_hash=key_hash(value), name=value, **ids, **limits))
    return value


async def ask(completions_app: CompletionsApp, key: str = KEY, model: object = "mini", **body: Any) -> httpx.Response:
    defaults: dict[str, Any] = {"messages": HELLO, "num_retries": 0}
    return await completions_app.post(key=key, model=model, **defaults | body)


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def functions(queries: Sequence[str]) -> list[str]:
    """Those of the schema that are called."""
    return [re.sub(r".*?\b(grant_of_hash|\w+_calls(_of)?)\(.*", r"\1", query, flags=re.DOTALL) for query in queries]


def rows(url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def next_minute(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE meters SET minute = minute - interval '1 minute'")


class TestRequestsAMinute:
    async def test_no_call_more_than_allowed(self, completions_app: CompletionsApp) -> None:
        await add_key(completions_app, rpm_limit=2)

        answers = [await ask(completions_app) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        error = answers[2].json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "2 calls a minute" in error["message"]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        assert len(completions_app.calls("mini")) == 2

    async def test_limits_start_again_each_minute(self, completions_app: CompletionsApp, database_url: str) -> None:
        await add_key(completions_app, rpm_limit=1)
        assert statuses([await ask(completions_app), await ask(completions_app)]) == [200, 429]

        next_minute(database_url)

        assert (await ask(completions_app)).status_code == 200

    async def test_a_fan_out_counts_as_its_calls_all_or_none(self, completions_app: CompletionsApp) -> None:
        await add_key(completions_app, rpm_limit=5)
        several: dict[str, Any] = {"model": ["mini", "mini"], "messages": [HELLO, HELLO]}

        first = await completions_app.post(key=KEY, **several)
        second = await completions_app.post(key=KEY, **several)

        assert (first.status_code, second.status_code) == (200, 429)
        assert "counts as 4" in second.json()["error"]["message"]
        assert len(completions_app.calls()) == 4
        assert (await ask(completions_app)).status_code == 200

    async def test_a_teams_limit_counts_all_its_keys(self, completions_app: CompletionsApp) -> None:
        team = Team(id="blue", rpm_limit=3)
        for number in range(2):
            await add_key(completions_app, f"sk-the-key-of-blue-{number}", team=team)

        answers = [await ask(completions_app, f"sk-the-key-of-blue-{number % 2}") for number in range(4)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert "The team may use 3 calls a minute" in answers[3].json()["error"]["message"]

    async def test_what_one_limit_refuses_counts_for_no_other(
        self, completions_app: CompletionsApp, database_url: str
    ) -> None:
        await add_key(completions_app, team=Team(id="blue", rpm_limit=9), user=User(id="ann", rpm_limit=1), rpm_limit=9)

        assert statuses([await ask(completions_app) for _ in range(3)]) == [200, 429, 429]

        assert rows(database_url, "SELECT subject, requests FROM meters ORDER BY subject") == [
            {"subject": f"key:key_{KEY}", "requests": 1},
            {"subject": "team:blue", "requests": 1},
            {"subject": "user:ann", "requests": 1},
        ]

    async def test_zero_allows_nothing(self, completions_app: CompletionsApp) -> None:
        await add_key(completions_app, rpm_limit=0)

        assert (await ask(completions_app)).status_code == 429
        assert completions_app.calls() == []


async def test_requests_that_meet_at_the_database_are_counted_one_by_one(
    completions_app: CompletionsApp, database_url: str
) -> None:
    await add_key(completions_app, team=Team(id="blue", rpm_limit=17), rpm_limit=20)
    caller = await completions_app.gateway.authenticate(KEY)
    stores = [Store(lambda: database_url) for _ in range(8)]

    async def admit(store: Store, number: int) -> list[bool]:
        admitted = []
        for turn in range(5):
            async with store.session() as tables:
                statuses = await tables.meters.admit(caller.limited, 1, f"{number}-{turn}", 60)
            admitted.append(not any(status.reached for status in statuses))
        return admitted

    results = await asyncio.gather(*(admit(store, number) for number, store in enumerate(stores)))
    for store in stores:
        await store.close()

    assert sum(map(sum, results)) == 17
    assert {row["requests"] for row in rows(database_url, "SELECT requests FROM meters")} == {17}


class TestParallelRequests:
    async def test_no_call_more_than_allowed_at_once(self, completions_app: CompletionsApp) -> None:
        await add_key(completions_app, max_parallel_requests=2)
        completions_app.set_latency("mini", answer=0.5)

        answers = await asyncio.gather(*(ask(completions_app) for _ in range(4)))

        assert statuses(answers) == [200, 200, 429, 429]
        assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}

    async def test_a_finished_call_frees_its_place_even_if_it_failed(self, completions_app: CompletionsApp) -> None:
        await add_key(completions_app, max_parallel_requests=1)
        completions_app.provider.fail(Fault(kind="error", account="openai"))

        assert [(await ask(completions_app)).status_code for _ in range(3)] == [502, 200, 200]

    async def test_the_lease_of_a_crashed_environment_expires(
        self, completions_app: CompletionsApp, database_url: str
    ) -> None:
        await add_key(completions_app, max_parallel_requests=1)
        caller = await completions_app.gateway.authenticate(KEY)
        async with completions_app.gateway.store.session() as tables:
            await tables.meters.admit(caller.limited, 1, "of-the-dead", 0.3)

        during = (await ask(completions_app)).status_code
        await asyncio.sleep(0.4)

        assert (during, (await ask(completions_app)).status_code) == (429, 200)
        assert rows(database_url, "SELECT leases FROM meters") == [{"leases": {}}]


async def test_tokens_a_minute(completions_app: CompletionsApp, database_url: str) -> None:
    await add_key(completions_app, tpm_limit=1)

    assert [(await ask(completions_app)).status_code for _ in range(2)] == [200, 429]
    next_minute(database_url)
    assert (await ask(completions_app)).status_code == 200


class TestBudget:
    async def test_a_spent_budget_refuses_calls(self, completions_app: CompletionsApp) -> None:
        await add_key(completions_app, max_budget=Decimal("0.0000001"))

        first, second = await ask(completions_app), await ask(completions_app)

        assert (first.status_code, second.status_code) == (200, 400)
        error = second.json()["error"]
        assert (error["type"], error["code"]) == ("budget_exceeded", "budget_exceeded")

    async def test_a_new_period_begins_with_nothing_spent(
        self, completions_app: CompletionsApp, database_url: str
    ) -> None:
        await add_key(completions_app, max_budget=Decimal("0.0000001"), budget_duration="1d")
        assert statuses([await ask(completions_app), await ask(completions_app)]) == [200, 400]

        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE meters SET period_ends_at = period_ends_at - interval '1 day'")

        assert statuses([await ask(completions_app), await ask(completions_app)]) == [200, 400]

    @pytest.mark.parametrize("before", [None, "30d"])
    async def test_a_period_that_a_used_up_budget_is_given_begins_though_calls_are_refused(
        self, completions_app: CompletionsApp, database_url: str, before: str | None
    ) -> None:
        await add_key(completions_app, max_budget=Decimal("0.0000001"), budget_duration=before, max_parallel_requests=1)
        assert statuses([await ask(completions_app), await ask(completions_app)]) == [200, 400]

        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE api_keys SET budget_duration = '1d'")
        assert statuses([await ask(completions_app), await ask(completions_app)]) == [400, 400]
        assert rows(database_url, "SELECT requests > 1 AS counted, leases, period_seconds FROM meters") == [
            {"counted": False, "leases": {}, "period_seconds": 86_400}
        ]
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE meters SET period_ends_at = period_ends_at - interval '1 day'")

        assert [(await ask(completions_app)).status_code for _ in range(2)] == [200, 400]

    async def test_a_call_without_a_price_costs_nothing(
        self, completions_app: CompletionsApp, database_url: str
    ) -> None:
        await add_key(completions_app, max_budget=Decimal("0.0000001"))

        assert statuses([await ask(completions_app, model="general") for _ in range(2)]) == [200, 200]
        assert {row["cost"] for row in rows(database_url, "SELECT cost FROM calls")} == {None}


class TestCalls:
    async def test_each_call_is_recorded_once(self, completions_app: CompletionsApp, database_url: str) -> None:
        await add_key(completions_app, team=Team(id="blue"), user=User(id="ann"))

        answer = (await ask(completions_app)).json()

        [call] = rows(database_url, "SELECT * FROM calls")
        assert (call["key_id"], call["user_id"], call["team_id"]) == (f"key_{KEY}", "ann", "blue")
        assert (call["model_group"], call["deployment_id"], call["route"]) == (
            "mini",
            "mini-alone",
            "/chat/completions",
        )
        assert (call["status"], call["error"]) == (200, None)
        assert call["input_tokens"] == answer["usage"]["prompt_tokens"] > 0
        assert call["output_tokens"] == answer["usage"]["completion_tokens"] > 0
        price = Decimal("0.4") * call["input_tokens"] + Decimal("1.6") * call["output_tokens"]
        assert call["cost"] == price / 1_000_000
        assert call["seconds"] > 0

    async def test_failures_are_recorded(self, completions_app: CompletionsApp, database_url: str) -> None:
        completions_app.provider.fail(Fault(kind="error", account="azure-general"))

        assert (await completions_app.post(model="pair", messages=HELLO)).status_code == 200

        calls = rows(database_url, "SELECT deployment_id, status, output_tokens > 0 AS told FROM calls ORDER BY status")
        assert calls == [
            {"deployment_id": "pair-special", "status": 200, "told": True},
            {"deployment_id": "pair-general", "status": 500, "told": False},
        ]

    @pytest.mark.parametrize("code", ["nul\0", "\ud83d cut in two", "long" * 1000])
    async def test_a_providers_code_that_cannot_be_kept_loses_no_call_and_ends_the_lease(
        self, completions_app: CompletionsApp, database_url: str, code: str
    ) -> None:
        await add_key(completions_app, max_parallel_requests=2)
        completions_app.provider.fail(Fault(kind="refuse", account="openai", code=code))

        answers = [await ask(completions_app, model="mini,special"), await ask(completions_app, model="mini,special")]

        assert statuses(answers) == [200, 200]
        assert rows(database_url, "SELECT status, count(*) FROM calls GROUP BY 1 ORDER BY 1") == [
            {"status": 200, "count": 3},
            {"status": 400, "count": 1},
        ]
        assert rows(database_url, "SELECT leases FROM meters") == [{"leases": {}}]

    async def test_a_stream_is_recorded_at_its_end(self, completions_app: CompletionsApp, database_url: str) -> None:
        await add_key(completions_app, max_parallel_requests=1)

        for _ in range(2):
            answer = await ask(completions_app, stream=True)
            assert answer.text.endswith("data: [DONE]\n\n")

        assert {row["output_tokens"] > 0 for row in rows(database_url, "SELECT output_tokens FROM calls")} == {True}

    @pytest.mark.parametrize(("broken", "status"), [("deadline", 499), ("provider", 0)])
    async def test_a_truncated_stream_is_recorded(
        self, completions_app: CompletionsApp, database_url: str, broken: str, status: int
    ) -> None:
        await add_key(completions_app, tpm_limit=2)
        if broken == "deadline":
            completions_app.set_latency("mini", between_tokens=0.1)
        else:
            completions_app.provider.fail(Fault(kind="cut", account="openai", when="within", chunks=4))

        await ask(completions_app, stream=True, messages=[{"role": "user", "content": "word " * 50}], timeout=0.8)

        [call] = rows(database_url, "SELECT status, output_tokens, cost FROM calls")
        assert (call["status"], call["output_tokens"] >= 2, call["cost"] > 0) == (status, True, True)
        assert (await ask(completions_app)).status_code == 429, "what came before is metered"

    async def test_a_fan_outs_calls_are_recorded_by_one_statement(
        self, completions_app: CompletionsApp, database_url: str, queries: list[str]
    ) -> None:
        await completions_app.post(model=["mini", "special"], messages=[HELLO, HELLO, HELLO])

        assert rows(database_url, "SELECT count(*) FROM calls") == [{"count": 6}]
        assert functions(queries) == ["record_calls"]

    @pytest.mark.usefixtures("no_record")
    async def test_an_answer_is_returned_even_if_its_calls_cannot_be_recorded(
        self, completions_app: CompletionsApp
    ) -> None:
        assert (await ask(completions_app, key="sk-master-of-the-tests")).status_code == 200


class TestStatements:
    """The statements of a request."""

    async def test_a_remembered_key_needs_the_record_alone(
        self, completions_app: CompletionsApp, queries: list[str]
    ) -> None:
        await add_key(completions_app)
        queries.clear()

        answers = [await ask(completions_app) for _ in range(3)]

        assert statuses(answers) == [200, 200, 200]
        assert functions(queries) == ["grant_of_hash", *["record_calls"] * 3]

    async def test_limits_need_one_more_statement(self, completions_app: CompletionsApp, queries: list[str]) -> None:
        await add_key(completions_app, team=Team(id="blue", tpm_limit=1_000_000), rpm_limit=10)
        await ask(completions_app)
        queries.clear()

        await ask(completions_app)

        assert functions(queries) == ["meter_calls_of", "record_calls"]

    @pytest.mark.parametrize("limits", [{}, {"rpm_limit": 10}])
    @pytest.mark.parametrize("body", [{"stream": True}, {"model": ["mini", "general"]}])
    async def test_pieces_are_verified_before_the_first(
        self, completions_app: CompletionsApp, queries: list[str], body: dict[str, Any], limits: dict[str, Any]
    ) -> None:
        """Limits verify, too."""
        await add_key(completions_app, **limits)
        await ask(completions_app)
        queries.clear()

        await ask(completions_app, **body)

        assert functions(queries) == ["meter_calls_of" if limits else "grant_of_hash", "record_calls"]
