"""Attempts that hang, and attempts that the gateway gives up: each is recorded, and a deployment's own
failures alone count against it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from local.provider import Fault, Simulator, defaults
from manifold.auth import key_hash
from manifold.config import RouterSettings
from manifold.dispatch.token_usage import estimated, tokens_of
from manifold.providers.registry import close_providers
from manifold.store.keys import Key
from tests.support import gateways
from tests.support.completions_app import CONFIG, HELLO, CompletionsApp

pytest_plugins = ("tests.support.completions_app",)

IMPATIENT = "8"
"""API Gateway's timeout in seconds: a request lasts seven, and the first of two attempts 4.7."""
SENT = estimated({"messages": HELLO})["prompt_tokens"]


@pytest.fixture
async def short_timeout_app(database_url: str, simulated_provider: Simulator) -> AsyncIterator[CompletionsApp]:
    """The app with default settings and a shorter timeout."""
    port = int(simulated_provider.url.rpartition(":")[2])
    values = {"MANIFOLD_CONFIG": str(CONFIG), "MANIFOLD_COMPLETIONS_TIMEOUT": IMPATIENT, **defaults(port)}
    gateway = gateways.gateway(database_url, values)
    yield CompletionsApp(gateway, simulated_provider)
    await gateway.store.close()
    await close_providers()


def route(completions_app: CompletionsApp, **settings: Any) -> None:
    """Set the routing of completions, with a timeout for each deployment that hangs."""
    deployments = tuple(
        replace(one, timeout=0.5) if one.id in ("pair-general", "general-alone") else one
        for one in completions_app.gateway.config.deployments
    )
    router = RouterSettings(cooldown_time=60, **settings)
    completions_app.gateway.config = replace(
        completions_app.gateway.config, deployments=deployments, router_settings=router
    )


def rows(url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def calls(database_url: str) -> list[tuple[Any, ...]]:
    records = rows(
        database_url, "SELECT deployment_id, status, error, input_tokens FROM calls ORDER BY deployment_id, id"
    )
    return [tuple(row.values()) for row in records]


def failing(database_url: str) -> list[str]:
    """The deployments in cooldown."""
    records = rows(database_url, "SELECT deployment_id FROM traffic WHERE cool_until > now() ORDER BY 1")
    return [row["deployment_id"] for row in records]


def hang(completions_app: CompletionsApp, account: str = "azure-general", **options: Any) -> None:
    completions_app.provider.fail(Fault(kind="hang", account=account, times=None, **options))


async def test_a_deployment_that_hangs_is_replaced_within_the_request(
    short_timeout_app: CompletionsApp, database_url: str
) -> None:
    hang(short_timeout_app)

    answer = await short_timeout_app.post(model="pair", messages=HELLO)

    assert answer.headers["x-manifold-deployment"] == "pair-special"
    assert calls(database_url)[0] == ("pair-general", 0, "timeout", SENT)
    assert failing(database_url) == ["pair-general"]


@pytest.mark.parametrize("stream", [False, True])
async def test_after_a_hang_without_retries_the_next_request_goes_elsewhere(
    completions_app: CompletionsApp, database_url: str, stream: bool
) -> None:
    route(completions_app)
    hang(completions_app)

    status, error = await completions_app.error(model="pair", stream=stream)
    answer = await completions_app.post(model="pair", messages=HELLO, num_retries=0, stream=stream)

    assert (status, error["code"]) == (504, "provider_timeout")
    assert answer.headers["x-manifold-deployment"] == "pair-special"
    assert len(completions_app.calls("general")) == 1
    assert calls(database_url)[0] == ("pair-general", 0, "timeout", SENT)


async def test_a_stream_without_a_first_token_is_retried_elsewhere(
    completions_app: CompletionsApp, database_url: str
) -> None:
    route(completions_app)
    hang(completions_app, when="within", chunks=0)

    answer = await completions_app.post(model="pair", messages=HELLO, stream=True)

    assert answer.headers["x-manifold-deployment"] == "pair-special"
    assert failing(database_url) == ["pair-general"]


async def test_a_stream_that_stalls_is_ended_and_counted(completions_app: CompletionsApp, database_url: str) -> None:
    route(completions_app)
    hang(completions_app, when="within", chunks=3)

    answer = await completions_app.post(model="pair", messages=HELLO, stream=True)

    last = json.loads(answer.text.rstrip().rpartition("data: ")[2])
    assert last["error"]["code"] == "provider_timeout"
    [(deployment_id, status, code, prompt)] = calls(database_url)
    assert (deployment_id, status, code, prompt) == ("pair-general", 0, "timeout", SENT)
    assert failing(database_url) == ["pair-general"]


async def test_a_group_that_hangs_leaves_time_for_its_fallback(
    completions_app: CompletionsApp, database_url: str
) -> None:
    route(completions_app, fallbacks={"general": ("mini",)})
    hang(completions_app)

    answer = await completions_app.post(model="general", messages=HELLO, num_retries=0)

    assert answer.json()["model"] == "mini"
    assert [code for _, _, code, _ in calls(database_url)] == ["timeout", None]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_group_that_hung_is_skipped_while_its_fallback_answers(
    completions_app: CompletionsApp, database_url: str, stream: bool
) -> None:
    route(completions_app, fallbacks={"general": ("mini",)})
    hang(completions_app)

    answers = [await completions_app.post(model="general", messages=HELLO, stream=stream) for _ in range(2)]

    assert [answer.headers["x-manifold-deployment"] for answer in answers] == ["mini-alone", "mini-alone"]
    assert [code for _, _, code, _ in calls(database_url)] == ["timeout", None, None]


async def test_a_deployment_that_hung_stays_in_cooldown_for_the_next_request(
    completions_app: CompletionsApp, database_url: str
) -> None:
    """Two deployments that hang are called once each, and then their fallback is called."""
    route(completions_app, fallbacks={"pair": ("mini",)})
    short_timeout_app = tuple(
        replace(one, timeout=5.0, order=None) for one in completions_app.gateway.config.deployments
    )
    router = completions_app.gateway.config.router_settings._replace(cooldown_time=0)
    completions_app.gateway.config = replace(
        completions_app.gateway.config, deployments=short_timeout_app, router_settings=router
    )
    hang(completions_app)
    hang(completions_app, account="azure-special")

    for _ in range(3):
        answer = await completions_app.post(model="pair", messages=HELLO, num_retries=0)

    assert answer.headers["x-manifold-deployment"] == "mini-alone"
    assert [one for one, _, code, _ in calls(database_url) if code == "timeout"] == ["pair-general", "pair-special"]


async def test_a_skipped_group_is_called_if_no_other_answers(completions_app: CompletionsApp) -> None:
    route(completions_app, fallbacks={"general": ("mini",)})
    completions_app.provider.fail(Fault(kind="hang", account="azure-general"))
    await completions_app.post(model="general", messages=HELLO)
    completions_app.provider.fail(Fault(kind="error", account="openai", times=None))

    answer = await completions_app.post(model="general", messages=HELLO, num_retries=0)

    assert answer.headers["x-manifold-deployment"] == "general-alone"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_timeout_of_the_callers_own_counts_against_no_deployment(
    completions_app: CompletionsApp, database_url: str, stream: bool
) -> None:
    hang(completions_app)

    status, error = await completions_app.error(model="pair", timeout=1, stream=stream)

    assert (status, error["code"]) == (504, "deadline_exceeded")
    assert calls(database_url) == [("pair-general", 499, "caller_timeout", SENT)]
    assert rows(database_url, "SELECT * FROM traffic") == []


async def test_a_timeout_of_the_caller_within_a_stream_counts_against_no_deployment(
    completions_app: CompletionsApp, database_url: str
) -> None:
    hang(completions_app, when="within", chunks=3)

    answer = await completions_app.post(model="pair", messages=HELLO, stream=True, timeout=2)

    assert "deadline_exceeded" in answer.text
    assert calls(database_url) == [("pair-general", 499, "caller_timeout", SENT)]
    assert rows(database_url, "SELECT * FROM traffic") == []


@pytest.mark.parametrize("stream", [False, True])
async def test_slower_answers_of_a_race_are_recorded_and_count_against_no_deployment(
    completions_app: CompletionsApp, database_url: str, stream: bool
) -> None:
    completions_app.gateway.config = replace(
        completions_app.gateway.config, router_settings=RouterSettings(default_fallbacks=("special",))
    )
    hang(completions_app)

    answer = await completions_app.post(model=["general", "mini"], messages=HELLO, fastest_response=True, stream=stream)

    assert answer.status_code == 200
    assert calls(database_url)[0] == ("general-alone", 499, "outrun", SENT)
    assert rows(database_url, "SELECT * FROM traffic") == []


async def test_abandoned_calls_are_metered(completions_app: CompletionsApp, database_url: str) -> None:
    key = "sk-in-a-hurry"
    async with completions_app.gateway.store.session() as tables:
        await tables.keys.insert(Key(id="key_1", token_hash=key_hash(key), name=key, tpm_limit=1))
    hang(completions_app)

    late = await completions_app.post(key=key, model="general", messages=HELLO, timeout=1)
    again = await completions_app.post(key=key, model="general", messages=HELLO, timeout=1)

    assert (late.status_code, again.status_code) == (504, 429)
    assert rows(database_url, "SELECT tokens FROM meters") == [{"tokens": SENT}]


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": "many"}])
async def test_what_a_provider_does_not_count_is_estimated(
    completions_app: CompletionsApp, database_url: str, usage: dict[str, Any]
) -> None:
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi! " * 4}}]}
    completions_app.provider.fail(Fault(kind="inject", account="openai", text=json.dumps({**body, **usage})))

    answer = await completions_app.post(model="mini", messages=HELLO)

    assert answer.status_code == 200
    assert rows(database_url, "SELECT input_tokens, output_tokens FROM calls") == [
        {"input_tokens": SENT, "output_tokens": 4}
    ]


async def test_a_request_whose_client_has_left_is_recorded(completions_app: CompletionsApp, database_url: str) -> None:
    hang(completions_app)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await completions_app.post(model="general", messages=HELLO)

    assert calls(database_url) == [("general-alone", 499, "cancelled", SENT)]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": HELLO}, 4),
        ({"prompt": "Hello there"}, 3),
        ({"input": ["Hello", "there"]}, 3),
        ({"input": [1, 2, 3]}, 3),
        ({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:," + "x" * 100}}]}]}, 3),
        ({"messages": []}, 0),
        ({}, 0),
    ],
)
def test_a_prompt_is_estimated_by_its_texts(body: dict[str, Any], tokens: int) -> None:
    assert tokens_of(estimated(body)).input == tokens
