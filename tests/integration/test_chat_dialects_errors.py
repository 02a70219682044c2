"""The contract of `CompletionProvider`: refusals, failures and malformed answers of each translated dialect."""

import json
from dataclasses import replace
from typing import Any

import pytest

from local.provider import Fault, Simulator
from manifold.errors import InvalidRequest, ProviderError, ProviderRefused, ProviderUnclear
from manifold.provider_errors import client_error
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.registry import completion_provider_for
from tests.support.chat_dialects import ACCOUNT, PROVIDERS, Dialect, chat, chunks, error_of, shape
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.chat_dialects",)
pytestmark = pytest.mark.usefixtures("closed_providers")


async def failed(dialect: Dialect, request: ProviderRequest) -> tuple[int, str, str | None]:
    return shape(client_error(await error_of(dialect, request)))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_content_that_is_filtered(simulated_provider: Simulator, provider: str) -> None:
    """Cohere refuses, as Azure does; the others answer without text and with the reason, as OpenAI does."""
    dialect = completion_provider_for(provider), endpoint(simulated_provider, provider)
    request = chat("filter-this prompt")
    if provider == "cohere":
        assert await failed(dialect, request) == (400, "invalid_request_error", "content_filter")
        return
    answer = await dialect[0].complete(dialect[1], request)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert (await chunks(dialect, request))[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_the_other_routes_are_refused_before_any_call(dialect: Dialect, simulated_provider: Simulator) -> None:
    provider, at = dialect
    with pytest.raises(InvalidRequest) as caught:
        await provider.complete(at, ProviderRequest("/embeddings", {"input": "hello"}, 5.0))
    assert caught.value.param == "model"
    assert simulated_provider.log() == []


async def test_a_prompt_that_is_too_long(dialect: Dialect) -> None:
    outcome = await failed(dialect, chat("word " * 9_000))
    assert outcome == (400, "invalid_request_error", "context_length_exceeded")


@pytest.mark.parametrize(("kind", "code"), [("too_long", "context_length_exceeded"), ("forbidden", "content_filter")])
async def test_a_prompt_that_is_refused_in_the_provider_s_own_words(
    dialect: Dialect, simulated_provider: Simulator, kind: Any, code: str
) -> None:
    simulated_provider.fail(Fault(kind=kind))
    assert await failed(dialect, chat()) == (400, "invalid_request_error", code)

    simulated_provider.fail(Fault(kind=kind, when="within", chunks=1))
    with pytest.raises(ProviderRefused) as caught:
        await chunks(dialect, chat())
    assert client_error(caught.value).code == code


async def test_our_own_key_is_not_the_callers_fault(dialect: Dialect) -> None:
    provider, at = dialect
    assert await failed((provider, replace(at, api_key="wrong-secret-key")), chat()) == ACCOUNT


async def test_a_model_that_is_not_there_is_not_the_callers_fault(dialect: Dialect) -> None:
    provider, at = dialect
    assert await failed((provider, replace(at, model="gone")), chat()) == ACCOUNT


async def test_a_request_that_the_provider_finds_invalid_is_the_callers_fault(dialect: Dialect) -> None:
    outcome = client_error(await error_of(dialect, chat(max_tokens=0)))
    assert (outcome.status, outcome.type) == (400, "invalid_request_error")
    assert "127.0.0.1" not in outcome.message


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({"kind": "rate_limit", "retry_after": "7"}, (429, "rate_limit_error", "rate_limit_exceeded")),
        ({"kind": "error"}, (502, "server_error", "provider_error")),
        ({"kind": "error", "status": 503}, (503, "server_error", "provider_overloaded")),
        ({"kind": "error", "status": 529}, (503, "server_error", "provider_overloaded")),
        ({"kind": "cut"}, (502, "server_error", "provider_error")),
        ({"kind": "truncate"}, (502, "server_error", "provider_error")),
        ({"kind": "garbage"}, (502, "server_error", "provider_error")),
        ({"kind": "delay", "seconds": 5}, (504, "server_error", "provider_timeout")),
    ],
)
async def test_failures_before_an_answer(
    dialect: Dialect, simulated_provider: Simulator, how: dict[str, Any], outcome: tuple[int, str, str]
) -> None:
    simulated_provider.fail(Fault.model_validate({"route": "chat.create", **how}))
    # On a busy machine even a connection takes a while, and a short timeout would be the trouble.
    error = await error_of(dialect, chat(timeout=1.0 if how["kind"] == "delay" else 10.0))
    assert shape(client_error(error)) == outcome
    assert error.retry_after == (7 if "retry_after" in how else None)


@pytest.mark.parametrize("kind", ["cut", "truncate", "garbage", "error"])
async def test_failures_within_a_stream(dialect: Dialect, simulated_provider: Simulator, kind: str) -> None:
    simulated_provider.fail(Fault.model_validate({"route": "chat.create", "kind": kind, "when": "within", "chunks": 3}))
    provider, at = dialect
    came = []

    async def read() -> None:
        async for chunk in provider.stream(at, chat("one two three four")):
            came.append(chunk)

    with pytest.raises(ProviderUnclear):
        await read()
    assert came
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in came)


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "gemini"])
async def test_a_provider_that_is_overloaded_within_a_stream(simulated_provider: Simulator, provider: str) -> None:
    simulated_provider.fail(Fault(kind="rate_limit", route="chat.create", when="within", chunks=3))
    dialect = completion_provider_for(provider), endpoint(simulated_provider, provider)
    with pytest.raises(ProviderError) as caught:
        await chunks(dialect, chat("one two three four"))
    assert shape(client_error(caught.value)) == (429, "rate_limit_error", "rate_limit_exceeded")


KEEPALIVES = ("data:\n\n", ":\n\n", ": ping\n\n", "event: ping\n\n", "data: \r\n\r\n", "id: 7\n\n")


@pytest.mark.parametrize("provider", ["anthropic", "cohere", "gemini"])
@pytest.mark.parametrize("text", KEEPALIVES)
async def test_keep_alive_events_do_not_end_a_stream(simulated_provider: Simulator, provider: str, text: str) -> None:
    simulated_provider.fail(Fault(kind="inject", route="chat.create", when="within", chunks=3, text=text))
    dialect = completion_provider_for(provider), endpoint(simulated_provider, provider)
    outcome = await chunks(dialect, chat("one two three four"))
    content = "".join(choice["delta"].get("content") or "" for chunk in outcome for choice in chunk["choices"])
    assert content == "echo: one two three four"


HALF: dict[str, dict[str, Any]] = {
    "anthropic": {"content": [{"type": "text", "text": "cut \ud83d"}], "stop_reason": "end_turn"},
    "bedrock": {"output": {"message": {"content": [{"text": "cut \ud83d"}]}}, "stopReason": "end_turn"},
    "cohere": {"message": {"content": [{"type": "text", "text": "cut \ud83d"}]}, "finish_reason": "COMPLETE"},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "cut \ud83d"}]}, "finishReason": "STOP"}]},
}


@pytest.mark.parametrize("provider", HALF)
async def test_half_an_emoji_in_an_answer(simulated_provider: Simulator, provider: str) -> None:
    simulated_provider.fail(Fault(kind="inject", route="chat.create", text=json.dumps(HALF[provider])))
    answer = await completion_provider_for(provider).complete(endpoint(simulated_provider, provider), chat())
    assert answer["choices"][0]["message"]["content"] == "cut \ufffd"


async def test_counts_that_are_no_numbers(simulated_provider: Simulator) -> None:
    usage = {"tokens": {"input_tokens": "many", "output_tokens": 1}}
    simulated_provider.fail(
        Fault(kind="inject", route="chat.create", text=json.dumps(HALF["cohere"] | {"usage": usage}))
    )
    error = await error_of((completion_provider_for("cohere"), endpoint(simulated_provider, "cohere")), chat())
    assert shape(client_error(error)) == (502, "server_error", "provider_error")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("error", [{"code": 429, "message": "slow down"}, "the model is gone"])
async def test_an_error_within_a_success(simulated_provider: Simulator, provider: str, error: object) -> None:
    simulated_provider.fail(Fault(kind="inject", route="chat.create", text=json.dumps({"error": error})))
    await failed((completion_provider_for(provider), endpoint(simulated_provider, provider)), chat())
