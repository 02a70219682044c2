"""The contract of `CompletionProvider`, held by OpenAI's dialects against the simulated provider."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from local.provider import Latency, Simulator
from manifold.errors import ProviderError, ProviderRefused
from manifold.provider_errors import client_error
from manifold.providers import Endpoint
from manifold.providers.completion_provider import CompletionProvider, ProviderRequest, Route
from manifold.providers.registry import close_providers, completion_provider_for
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.provider_fixtures",)

Adapter = tuple[CompletionProvider, Endpoint]
DIALECTS = (
    pytest.param(("openai", "openai", None), id="openai"),
    pytest.param(("groq", "openai", None), id="like-openai"),
    pytest.param(("azure", "azure-general", None), id="azure-v1"),
    pytest.param(("azure", "azure-general", "2024-10-21"), id="azure-dated"),
)
SLOW = Latency(answer=30)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(autouse=True)
async def closed_providers() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=DIALECTS)
def adapter(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Adapter:
    name, account, version = request.param
    return completion_provider_for(name), endpoint(simulated_provider, account, api_version=version)


def chat(text: str = "hello there", timeout: float = 5.0, **more: Any) -> ProviderRequest:
    body = {"model": "group", "messages": [{"role": "user", "content": text}], **more}
    return ProviderRequest("/chat/completions", body, timeout)


async def chunks(provider: CompletionProvider, at: Endpoint, request: ProviderRequest) -> list[dict[str, Any]]:
    async with contextlib.aclosing(provider.stream(at, request)) as stream:
        return [chunk async for chunk in stream]


async def disconnected(simulator: Simulator, within: float = 1.0) -> list[bool]:
    """Whether the client of each call left early, after all calls have ended."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        log = simulator.log(route="chat.create")
        if log and all("ended" in entry for entry in log):
            break
        await asyncio.sleep(0.005)
    return [entry["disconnected"] for entry in log]


async def test_an_answer(adapter: Adapter) -> None:
    provider, at = adapter
    answer = await provider.complete(at, chat())

    assert answer["object"] == "chat.completion"
    assert answer["model"] == at.model
    assert answer["choices"][0]["message"]["content"] == "echo: hello there"
    assert answer["usage"]["total_tokens"] == 5


async def test_every_parameter_passes_untouched(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    parameters: dict[str, Any] = {
        "n": 3,
        "stop": ["there"],
        "logprobs": True,
        "top_logprobs": 1,
        "seed": 1,
        "reasoning_effort": "low",
    }
    answer = await provider.complete(at, chat(**parameters))

    assert [choice["message"]["content"] for choice in answer["choices"]] == ["echo: hello "] * 3
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    (entry,) = simulated_provider.log(route="chat.create")
    assert set(entry["parameters"]) == {"model", "messages", *parameters}


async def test_an_unknown_parameter_is_the_providers_to_refuse(adapter: Adapter) -> None:
    provider, at = adapter
    with pytest.raises(ProviderRefused) as caught:
        await provider.complete(at, chat(fastest=True))

    received = client_error(caught.value)
    assert (received.status, received.code, received.param) == (400, "unknown_parameter", "fastest")
    assert received.message == "Unknown parameter: 'fastest'."


async def test_a_tool_call_and_its_result(adapter: Adapter) -> None:
    provider, at = adapter
    question = {"role": "user", "content": "the weather"}
    called = (await provider.complete(at, chat(tools=[TOOL], tool_choice="required")))["choices"][0]
    assert called["finish_reason"] == "tool_calls"

    result = {"role": "tool", "tool_call_id": called["message"]["tool_calls"][0]["id"], "content": "sunny"}
    body = {"messages": [question, called["message"], result], "tools": [TOOL]}
    answer = await provider.complete(at, ProviderRequest("/chat/completions", body, 5.0))
    assert answer["choices"][0]["message"]["content"] == "echo: sunny"


@pytest.mark.parametrize(
    ("route", "body", "kind"),
    [
        ("/embeddings", {"input": ["one", "two"]}, "list"),
        ("/completions", {"prompt": "once upon"}, "text_completion"),
    ],
)
async def test_the_other_routes(adapter: Adapter, route: Route, body: dict[str, Any], kind: str) -> None:
    provider, at = adapter
    answer = await provider.complete(at, ProviderRequest(route, body, 5.0))
    assert (answer["object"], answer["model"]) == (kind, at.model)


async def test_a_stream(adapter: Adapter) -> None:
    provider, at = adapter
    received = await chunks(provider, at, chat("hello there", stream_options={"include_usage": True}))

    assert {chunk["object"] for chunk in received} == {"chat.completion.chunk"}
    deltas = [choice["delta"] for chunk in received for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "echo: hello there"
    assert received[-1]["choices"] == []
    assert received[-1]["usage"]["completion_tokens"] == 3


async def test_a_stream_of_text(adapter: Adapter) -> None:
    provider, at = adapter
    received = await chunks(provider, at, ProviderRequest("/completions", {"prompt": "once upon"}, 5.0))
    assert "".join(chunk["choices"][0]["text"] for chunk in received) == "echo: once upon"


async def test_chunks_arrive_as_they_are_sent(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    account = "azure-general" if provider is completion_provider_for("azure") else "openai"
    simulated_provider.state.set_latency(account, Latency(between_tokens=0.1))
    came = []
    async with contextlib.aclosing(provider.stream(at, chat("one two three"))) as stream:
        async for _ in stream:
            came.append(time.monotonic())

    assert came[-1] - came[0] > 0.1 * (len(came) - 2), "the first was not kept for the last"


async def test_a_cancelled_call_closes_its_connection_at_once(simulated_provider: Simulator) -> None:
    provider, at = completion_provider_for("openai"), endpoint(simulated_provider, "openai")
    simulated_provider.state.set_latency("openai", SLOW)
    call = asyncio.create_task(provider.complete(at, chat(timeout=60.0)))
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert await disconnected(simulated_provider, within=0.5) == [True]


async def test_a_call_that_timed_out_closes_its_connection(simulated_provider: Simulator) -> None:
    provider, at = completion_provider_for("openai"), endpoint(simulated_provider, "openai")
    simulated_provider.state.set_latency("openai", SLOW)
    with pytest.raises(ProviderError) as caught:
        await provider.complete(at, chat(timeout=0.2))

    assert (client_error(caught.value).status, client_error(caught.value).code) == (504, "provider_timeout")
    assert await disconnected(simulated_provider) == [True]


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_a_stream_left_early_closes_its_connection(simulated_provider: Simulator, how: str) -> None:
    provider, at = completion_provider_for("azure"), endpoint(simulated_provider, "azure-general")
    simulated_provider.state.set_latency("azure-general", Latency(between_tokens=30))
    stream = provider.stream(at, chat(timeout=60.0))
    await anext(stream)
    if how == "cancel":
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        await stream.aclose()

    assert await disconnected(simulated_provider, within=0.5) == [True]


async def test_an_answer_read_to_its_end_keeps_its_connection(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    for _ in range(5):
        await chunks(provider, at, chat())
        await provider.complete(at, chat())

    assert await disconnected(simulated_provider) == [False] * 10
    assert len({entry["client"] for entry in simulated_provider.log(route="chat.create")}) == 1


async def test_a_hundred_calls_at_once(simulated_provider: Simulator) -> None:
    provider, at = completion_provider_for("openai"), endpoint(simulated_provider, "openai", timeout=30)
    simulated_provider.state.set_latency("openai", Latency(answer=2.0))
    started = time.monotonic()
    answers = await asyncio.gather(*(provider.complete(at, chat(f"call {i}", timeout=30)) for i in range(120)))

    assert [answer["choices"][0]["message"]["content"] for answer in answers] == [f"echo: call {i}" for i in range(120)]
    assert await disconnected(simulated_provider) == [False] * 120
    entries = simulated_provider.log(route="chat.create")
    assert max(entry["at"] for entry in entries) < min(entry["ended"] for entry in entries), "none waited for another"
    assert time.monotonic() - started < 20


async def test_the_deployment_is_in_the_address_of_dated_versions_alone(simulated_provider: Simulator) -> None:
    provider, at = completion_provider_for("azure"), endpoint(simulated_provider, "azure-general")
    await provider.complete(at, chat())
    await provider.complete(replace(at, api_version="2024-10-21"), chat())
    paths = [entry["path"].removeprefix("/accounts/azure-general") for entry in simulated_provider.log()]
    assert paths == ["/openai/v1/chat/completions", f"/openai/deployments/{at.model}/chat/completions"]
