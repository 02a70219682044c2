"""Keys that several environments remember: nothing that a key may no longer have leaves any of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from completions import ledger
from local.provider import Fault, Simulator, defaults
from manifold.auth import key_hash
from manifold.errors import Unavailable
from manifold.providers.registry import close_providers
from manifold.store import Store, Tables
from manifold.store.keys import Key, KeyRow
from manifold.store.teams import Team
from tests.support import postgres
from tests.support.completions_app import CONFIG, HELLO, NO_RETRIES, CompletionsApp
from tests.support.gateways import gateway

pytest_plugins = ("tests.support.completions_app", "tests.support.query_fixtures")

VALUE = "sk-the-key-that-all-remember"
KEY = Key(id="key_1", token_hash=key_hash(VALUE), name="sk-…mber", team_id="blue")
ENVIRONMENTS = 3

Change = Callable[[Tables, KeyRow], Awaitable[object]]
CHANGES: dict[str, tuple[Change, int, str]] = {
    "blocked": (lambda tables, key: tables.keys.save(replace(key, blocked=True)), 403, "blocked_api_key"),
    "team blocked": (
        lambda tables, _: tables.connection.execute("UPDATE teams SET blocked = true"),
        403,
        "blocked_api_key",
    ),
    "deleted": (lambda tables, key: tables.keys.delete(key.id), 401, "invalid_api_key"),
    "expired": (
        lambda tables, key: tables.keys.save(replace(key, expires_at=datetime.now(UTC) - timedelta(seconds=1))),
        401,
        "expired_api_key",
    ),
    "regenerated": (
        lambda tables, key: tables.keys.save(replace(key, token_hash=key_hash("sk-another"))),
        401,
        "invalid_api_key",
    ),
    "narrowed": (lambda tables, key: tables.keys.save(replace(key, models=["special"])), 403, "model_access_denied"),
}
REQUESTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "one answer": ("/chat/completions", {"model": "mini", "messages": HELLO}, 1),
    "fastest": ("/chat/completions", {"model": ["mini", "general"], "messages": HELLO, "fastest_response": True}, 2),
    "array": ("/chat/completions", {"model": ["mini", "general"], "messages": HELLO}, 2),
    "rows": ("/chat/completions", {"model": ["mini", "general"], "messages": [HELLO, HELLO]}, 4),
    "stream": ("/chat/completions", {"model": "mini", "messages": HELLO, "stream": True}, 1),
    "embeddings": ("/embeddings", {"model": "vectors", "input": "Hello"}, 1),
}


@dataclass
class Environments:
    """Several environments of the function, beside a store that the admin uses."""

    apps: Sequence[CompletionsApp]
    new: CompletionsApp
    store: Store
    url: str

    async def change(self, change: Change) -> None:
        async with self.store.transaction() as tables:
            key = await tables.keys.find("id", KEY.id)
            assert key is not None
            await change(tables, key)

    def recorded(self) -> int:
        [(count,)] = postgres.connection(self.url).execute("SELECT count(*) FROM calls").fetchall()
        return int(count)


@pytest.fixture
async def environments(database_url: str, simulated_provider: Simulator) -> AsyncIterator[Environments]:
    """Environments that remember the key, as each but the last has answered a request of it."""
    port = int(simulated_provider.url.rpartition(":")[2])
    variables = {"MANIFOLD_CONFIG": str(CONFIG), **defaults(port)}
    gateways = [gateway(database_url, variables) for _ in range(ENVIRONMENTS + 1)]
    store = Store(lambda: database_url)
    async with store.transaction() as tables:
        await tables.teams.insert(Team(id="blue"))
        await tables.keys.insert(KEY)
    apps = [CompletionsApp(one, simulated_provider) for one in gateways]
    for app in apps[:ENVIRONMENTS]:
        assert (await ask(app)).status_code == 200
    postgres.connection(database_url).execute("DELETE FROM calls")
    yield Environments(apps[:ENVIRONMENTS], apps[ENVIRONMENTS], store, database_url)
    for one in gateways:
        await one.store.close()
    await store.close()
    await close_providers()


async def ask(app: CompletionsApp, request: str = "one answer", **more: Any) -> httpx.Response:
    path, body, _ = REQUESTS[request]
    return await app.post(path, VALUE, **NO_RETRIES | body | more)


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("change_name", CHANGES)
async def test_the_first_answer_after_a_change_leaves_no_environment(
    environments: Environments, change_name: str, request_name: str
) -> None:
    change, status, code = CHANGES[change_name]
    await environments.change(change)
    for number, app in enumerate(environments.apps, start=1):
        answer = await ask(app, request_name)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        calls = REQUESTS[request_name][2]
        assert 0 < environments.recorded() <= number * calls, "the calls are recorded all the same"


@pytest.mark.parametrize("request_name", ["one answer", "fastest", "embeddings"])
async def test_a_key_that_is_blocked_while_the_model_answers(environments: Environments, request_name: str) -> None:
    app = environments.apps[0]
    for group in ("mini", "general"):
        app.set_latency(group, answer=0.3)
    asking = asyncio.create_task(ask(app, request_name))
    await asyncio.sleep(0.1)
    await environments.change(CHANGES["blocked"][0])
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "blocked_api_key")
    assert environments.recorded() == REQUESTS[request_name][2]


@pytest.mark.parametrize("request_name", ["array", "stream"])
async def test_what_has_begun_to_leave_goes_on(environments: Environments, request_name: str) -> None:
    app = environments.apps[0]
    app.set_latency("mini", between_tokens=0.1)
    app.set_latency("general", answer=0.4)
    asking = asyncio.create_task(ask(app, request_name))
    await asyncio.sleep(0.2)
    await environments.change(CHANGES["blocked"][0])
    assert (await asking).status_code == 200
    assert (await ask(app, request_name)).status_code == 403


async def test_a_failure_of_the_provider_does_not_hide_that_a_key_is_blocked(environments: Environments) -> None:
    await environments.change(CHANGES["blocked"][0])
    app = environments.apps[0]
    app.provider.fail(Fault(kind="error", account="openai"))
    answer = await ask(app)
    assert (answer.status_code, environments.recorded()) == (403, 1)


@pytest.mark.parametrize("body", [{"model": "none"}, {"model": 5}, {"model": "mini", "messages": 5}])
@pytest.mark.parametrize("change_name", ["blocked", "deleted"])
async def test_an_error_of_the_request_tells_nothing_to_a_key_that_may_do_nothing(
    environments: Environments, change_name: str, body: dict[str, Any]
) -> None:
    change, status, code = CHANGES[change_name]
    await environments.change(change)
    answer = await ask(environments.apps[0], **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_key_that_was_given_more_has_it_at_once(environments: Environments) -> None:
    app = environments.apps[0]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, models=["mini"])))
    assert [(await ask(app, model=model)).status_code for model in ("mini", "general")] == [200, 403]
    await environments.change(
        lambda tables, key: tables.keys.save(replace(key, models=["mini", "general"], aliases={"fast": "general"}))
    )
    assert [(await ask(app, model=model)).status_code for model in ("general", "fast")] == [200, 200]


@pytest.mark.parametrize("busy", [0.0, 0.15])
@pytest.mark.parametrize("request_name", ["one answer", "array", "stream"])
@pytest.mark.parametrize("limits", [{}, {"rpm_limit": 9}])
async def test_a_fallback_that_the_key_may_no_longer_use_does_not_answer(
    environments: Environments, limits: dict[str, Any], request_name: str, busy: float
) -> None:
    """Whether the database says so before or after the provider has failed."""
    app = environments.apps[1]
    settings = app.gateway.config.router_settings._replace(
        fallbacks={"mini": ("special",)}, enforce_fallback_model_access=True
    )
    app.gateway.config = replace(app.gateway.config, router_settings=settings)
    app.app.state.scopes.cache_clear()
    await environments.change(lambda tables, key: tables.keys.save(replace(key, **limits)))
    await ask(app)
    app.provider.fail(Fault(kind="error", account="openai", times=None))
    assert (await ask(app, request_name)).status_code == 200
    await environments.change(lambda tables, key: tables.keys.save(replace(key, models=["mini", "general"])))
    find, before = app.gateway.keys._find, len(app.calls("special"))

    async def find_late(token_hash: str) -> str | None:
        await asyncio.sleep(busy)
        return await find(token_hash)

    app.gateway.keys._find = find_late
    answer = await ask(app, request_name)
    assert answer.status_code == (200 if request_name == "array" else 502), answer.text
    assert "special" not in answer.text
    assert len(app.calls("special")) == before


@pytest.mark.parametrize("limits", [{}, {"rpm_limit": 90}])
@pytest.mark.parametrize("change_name", ["blocked", "deleted", "narrowed"])
async def test_an_array_begins_no_call_long_after_its_key_was_changed(
    environments: Environments, monkeypatch: pytest.MonkeyPatch, change_name: str, limits: dict[str, Any]
) -> None:
    monkeypatch.setattr(ledger, "VERIFIED_SECONDS", 0.3)
    app = environments.apps[0]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, **limits)))
    app.set_latency("mini", answer=0.1)
    asking = asyncio.create_task(ask(app, model="mini", messages=[HELLO] * 20, max_workers=1))
    await asyncio.sleep(0.25)
    change, _, code = CHANGES[change_name]
    await environments.change(change)
    answer = await asking
    places = answer.json()
    refused = [place["error"]["code"] for place in places if "error" in place]
    assert (answer.status_code, len(places), set(refused)) == (200, 20, {code})
    assert 1 <= 20 - len(refused) <= 8
    assert environments.recorded() == 20 - len(refused)


async def test_an_array_whose_limits_are_removed_meanwhile_frees_its_lease(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "VERIFIED_SECONDS", 0.1)
    app = environments.apps[0]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, max_parallel_requests=9)))
    await ask(app)
    app.set_latency("mini", answer=0.1)
    asking = asyncio.create_task(ask(app, model="mini", messages=[HELLO] * 5, max_workers=1))
    await asyncio.sleep(0.15)
    [(held,)] = postgres.connection(environments.url).execute("SELECT leases FROM meters").fetchall()
    await environments.change(lambda tables, key: tables.keys.save(replace(key, max_parallel_requests=None)))
    assert (await asking).status_code == 200
    [(left,)] = postgres.connection(environments.url).execute("SELECT leases FROM meters").fetchall()
    assert (len(held), left) == (1, {})


async def test_a_body_that_is_too_large_tells_nothing_to_a_key_that_may_do_nothing(environments: Environments) -> None:
    app = environments.apps[0]
    large = [{"role": "user", "content": "a" * 7_000_000}]
    assert (await ask(app, messages=large)).status_code == 413
    await environments.change(CHANGES["blocked"][0])
    assert (await ask(app, messages=large)).status_code == 403


async def test_a_call_is_of_the_team_that_the_key_has_now(environments: Environments) -> None:
    async with environments.store.transaction() as tables:
        await tables.teams.insert(Team(id="red"))
    await environments.change(lambda tables, key: tables.keys.save(replace(key, team_id="red")))
    assert (await ask(environments.apps[0])).status_code == 200
    assert postgres.connection(environments.url).execute("SELECT team_id FROM calls").fetchall() == [("red",)]


async def test_limits_that_were_added_or_changed_are_kept_by_the_next_request(environments: Environments) -> None:
    app = environments.apps[0]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, rpm_limit=1)))
    assert (await ask(app)).status_code == 200, "it was remembered without limits"
    assert [(await ask(app)).status_code for _ in range(2)] == [200, 429]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, rpm_limit=3)))
    assert [(await ask(app)).status_code for _ in range(3)] == [200, 200, 429]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, rpm_limit=None)))
    assert (await ask(app)).status_code == 200


async def test_a_limited_key_is_refused_before_it_calls(environments: Environments) -> None:
    """As what admits looks the key up."""
    app = environments.apps[0]
    await environments.change(lambda tables, key: tables.keys.save(replace(key, rpm_limit=9)))
    await ask(app)
    await environments.change(CHANGES["blocked"][0])
    before = len(app.calls())
    assert ((await ask(app)).status_code, len(app.calls())) == (403, before)
    assert postgres.connection(environments.url).execute("SELECT FROM meters").fetchall() == [], "nothing was admitted"


@pytest.mark.usefixtures("no_record")
async def test_an_answer_whose_key_cannot_be_verified_does_not_leave(environments: Environments) -> None:
    """Of a key that was looked up for the request it does: the call is paid."""
    answer = await ask(environments.apps[0])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, Unavailable.default_code)
    assert (await ask(environments.new)).status_code == 200
