"""Parameters that a provider takes only in its own form, against the simulated provider, which is as strict."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from local.provider import Fault, Simulator
from manifold.errors import InvalidRequest, ProviderError
from manifold.provider_errors import client_error
from manifold.providers import Endpoint
from manifold.providers.completion_provider import CompletionProvider, ProviderRequest
from manifold.providers.registry import close_providers, completion_provider_for
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.provider_fixtures",)

Adapter = tuple[CompletionProvider, Endpoint]
PROVIDERS = ("anthropic", "bedrock", "cohere", "gemini")
CLAUDE = ("anthropic", "bedrock")
APPLICATION = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc123"
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 50},
        "born": {"type": "string", "format": "date"},
        "age": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        "friends": {"type": "array", "items": {"$ref": "#/$defs/Friend"}, "maxItems": 3},
    },
    "required": ["name"],
    "$defs": {"Friend": {"type": "object", "properties": {"name": {"type": "string"}}}},
}
SHAPED = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    await close_providers()


def adapter(simulator: Simulator, provider: str, model: str | None = None, base_model: str | None = None) -> Adapter:
    """The provider and an endpoint with its first model, or with `model`, which is added to the account."""
    at = endpoint(simulator, provider)
    if model is not None:
        account = simulator.state.accounts[provider]
        simulator.state.accounts[provider] = replace(account, models=account.models | {model})
        at = replace(at, model=model, base_model=base_model)
    return completion_provider_for(provider), at


async def answer_text(to: Adapter, *, drop: bool = False, **body: Any) -> str:
    provider, at = to
    request = ProviderRequest("/chat/completions", {"messages": HELLO, **body}, 5.0, drop_params=drop)
    message = (await provider.complete(at, request))["choices"][0]["message"]
    return str(message["content"] or message["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_schema_with_all_that_clients_write(simulated_provider: Simulator, provider: str) -> None:
    assert (
        json.loads(await answer_text(adapter(simulated_provider, provider), response_format=SHAPED))["name"] == "hello"
    )


@pytest.mark.parametrize("provider", CLAUDE)
async def test_a_strict_tool_with_all_that_clients_write(simulated_provider: Simulator, provider: str) -> None:
    tool = {"type": "function", "function": {"name": "meet", "parameters": PERSON, "strict": True}}
    arguments = await answer_text(adapter(simulated_provider, provider), tools=[tool], tool_choice="required")
    assert json.loads(arguments)["name"] == "hello"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.5, "top_p": 1},
        {"temperature": 0.5, "top_p": 0.9},
        {"temperature": 1, "top_p": 0.9},
        {"temperature": 0, "top_p": 0},
    ],
)
async def test_sampling_in_every_combination(
    simulated_provider: Simulator, provider: str, sampling: dict[str, Any]
) -> None:
    assert await answer_text(adapter(simulated_provider, provider), **sampling) == "echo: hello"


@pytest.mark.parametrize(
    ("provider", "model"), [("anthropic", "claude-opus-4-8"), ("bedrock", "eu.anthropic.claude-opus-4-8")]
)
@pytest.mark.parametrize(("name", "value"), [("temperature", 0.5), ("top_p", 0.9), ("top_k", 5)])
async def test_a_claude_that_takes_no_sampling(
    simulated_provider: Simulator, provider: str, model: str, name: str, value: Any
) -> None:
    to = adapter(simulated_provider, provider, model)
    with pytest.raises(InvalidRequest) as caught:
        await answer_text(to, **{name: value})
    assert caught.value.param == name
    assert await answer_text(to, drop=True, **{name: value}) == "echo: hello"
    assert await answer_text(to, temperature=1, top_p=1) == "echo: hello"


@pytest.mark.parametrize("provider", CLAUDE)
@pytest.mark.parametrize("more", [{"temperature": 0.5}, {"top_p": 0.5}, {"top_k": 5}])
async def test_sampling_of_a_claude_that_thinks(
    simulated_provider: Simulator, provider: str, more: dict[str, Any]
) -> None:
    to = adapter(simulated_provider, provider)
    assert await answer_text(to, drop=True, reasoning_effort="low", **more) == "echo: hello"


@pytest.mark.parametrize(
    ("provider", "model", "base_model"),
    [
        ("openai", "gpt-5-mini", None),
        ("openai", "o3-mini", None),
        ("azure-general", "our-reasoning", "azure/gpt-5-mini"),
    ],
)
@pytest.mark.parametrize(("name", "value"), [("temperature", 0.5), ("top_p", 0.9), ("presence_penalty", 1)])
async def test_openais_reasoning_models(
    simulated_provider: Simulator, provider: str, model: str, base_model: str | None, name: str, value: Any
) -> None:
    _, at = adapter(simulated_provider, provider, model, base_model)
    to = completion_provider_for(provider.partition("-")[0]), at
    with pytest.raises(ProviderError) as caught:
        await answer_text(to, **{name: value})
    outcome = client_error(caught.value)
    assert (outcome.status, outcome.type, outcome.param) == (400, "invalid_request_error", name)
    assert await answer_text(to, drop=True, **{name: value}) == "echo: hello"
    assert await answer_text(to, temperature=1, top_p=1) == "echo: hello"
    assert await answer_text(to, reasoning_effort="none", **{name: value}) == "echo: hello"


@pytest.mark.parametrize("provider", CLAUDE)
@pytest.mark.parametrize("budget", [1_024, 16_000, 60_000])
async def test_a_budget_without_a_limit(simulated_provider: Simulator, provider: str, budget: int) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    assert await answer_text(adapter(simulated_provider, provider), thinking=thinking) == "echo: hello"


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
@pytest.mark.parametrize("model", ["claude-opus-4-1", "claude-sonnet-4-20250514", "claude-opus-4-6"])
async def test_every_effort_fits_into_what_the_model_gives(
    simulated_provider: Simulator, model: str, effort: str
) -> None:
    assert await answer_text(adapter(simulated_provider, "anthropic", model), reasoning_effort=effort) == "echo: hello"


def called(**result: Any) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    return [*HELLO, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", **result}]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("given", [{}, {"tools": []}, {"tools": [WEATHER], "tool_choice": "none"}])
@pytest.mark.parametrize("parallel", [None, False])
async def test_tools_were_called_and_none_may_be(
    simulated_provider: Simulator, provider: str, given: dict[str, Any], parallel: bool | None
) -> None:
    to = adapter(simulated_provider, provider)
    messages = called(content="sunny")
    assert await answer_text(to, messages=messages, parallel_tool_calls=parallel, **given) == "echo: sunny"


@pytest.mark.parametrize("provider", CLAUDE)
@pytest.mark.parametrize(
    "choice", [None, "auto", "required", {"type": "function", "function": {"name": "weather"}}, "none"]
)
async def test_one_call_at_a_time(simulated_provider: Simulator, provider: str, choice: object) -> None:
    to = adapter(simulated_provider, provider)
    answer = await answer_text(to, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)
    assert "hello" in answer


@pytest.mark.parametrize("provider", CLAUDE)
async def test_an_effort_before_a_call_that_must_be_made(simulated_provider: Simulator, provider: str) -> None:
    more: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}
    to = adapter(simulated_provider, provider)
    assert "hello" in await answer_text(to, drop=True, reasoning_effort="low", **more)


@pytest.mark.parametrize("provider", CLAUDE)
async def test_a_mark_on_a_tools_result(simulated_provider: Simulator, provider: str) -> None:
    part = {"type": "text", "text": "sunny", "cache_control": {"type": "ephemeral"}}
    to = adapter(simulated_provider, provider)
    assert "sunny" in await answer_text(to, messages=called(content=[part]), tools=[WEATHER])
    [entry] = simulated_provider.log(provider)
    assert {"anthropic": "cache_control", "bedrock": "cachePoint"}[provider] in json.dumps(entry["body"]["messages"])


async def test_an_arn_without_the_models_name(simulated_provider: Simulator) -> None:
    to = adapter(simulated_provider, "bedrock", APPLICATION, "anthropic.claude-haiku-4-5-20251001-v1:0")
    more: dict[str, Any] = {"tools": [WEATHER], "parallel_tool_calls": False, "stop": ["\n", "END"]}
    assert await answer_text(to, drop=True, reasoning_effort="low", temperature=0.5, top_p=0.9, **more) == "echo: hello"
    [entry] = simulated_provider.log("bedrock")
    assert entry["body"]["additionalModelRequestFields"]["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("provider", CLAUDE)
@pytest.mark.parametrize("stop", ["\n", " ", ["\n\n", "never"], ""])
async def test_a_stop_of_white_space(simulated_provider: Simulator, provider: str, stop: object) -> None:
    assert await answer_text(adapter(simulated_provider, provider), drop=True, stop=stop) == "echo: hello"


async def test_an_email_address_as_user(simulated_provider: Simulator) -> None:
    assert (
        await answer_text(adapter(simulated_provider, "anthropic"), drop=True, user="ann@example.com") == "echo: hello"
    )


@pytest.mark.parametrize(
    ("provider", "how", "seconds"),
    [
        ("gemini", {"retry_after": "34.5"}, 34.5),
        ("gemini", {"retry_after": "90000"}, 3_600.0),
        ("openai", {"retry_after_ms": "1500", "retry_after": "2"}, 1.5),
        ("azure-general", {"retry_after_ms": "250"}, 0.25),
        ("azure-general", {"retry_after": "31536000"}, 3_600.0),
    ],
)
async def test_retry_after_of_each_dialect(
    simulated_provider: Simulator, provider: str, how: dict[str, str], seconds: float
) -> None:
    simulated_provider.fail(Fault.model_validate({"kind": "rate_limit", "route": "chat.create", **how}))
    to = completion_provider_for(provider.partition("-")[0]), endpoint(simulated_provider, provider)
    with pytest.raises(ProviderError) as caught:
        await answer_text(to)
    assert caught.value.retry_after == seconds
