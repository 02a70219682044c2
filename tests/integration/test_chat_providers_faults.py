"""Every failure of a completion, over HTTP: which error it is, and what the caller reads."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from local.provider import Fault, Simulator
from manifold.errors import CallFailed, ProviderError, ProviderRefused, ProviderUnclear
from manifold.provider_errors import client_error
from manifold.providers import Endpoint
from manifold.providers.completion_provider import CompletionProvider, ProviderRequest
from manifold.providers.registry import close_providers, completion_provider_for
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.provider_fixtures",)

Adapter = tuple[CompletionProvider, Endpoint]
LEAKY = (
    "Deployment {model} of resource {host} rejected key {key} of org-Abc123def: see https://{host}/openai?key={key}"
    " (request req_0123456789abcdef)"
)


@pytest.fixture(autouse=True)
async def closed_providers() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=["openai", "azure"])
def adapter(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Adapter:
    account = {"openai": "openai", "azure": "azure-general"}[request.param]
    return completion_provider_for(request.param), endpoint(simulated_provider, account)


def chat(text: str = "hello there", timeout: float = 5.0, **more: Any) -> ProviderRequest:
    return ProviderRequest("/chat/completions", {"messages": [{"role": "user", "content": text}], **more}, timeout)


def fault(kind: str, **how: Any) -> Fault:
    return Fault.model_validate({"kind": kind, "route": "chat.create", **how})


async def complete(adapter: Adapter, request: ProviderRequest | None = None) -> ProviderError:
    provider, at = adapter
    with pytest.raises(ProviderError) as caught:
        await provider.complete(at, request or chat())
    return caught.value


async def broken(adapter: Adapter, request: ProviderRequest | None = None) -> tuple[int, ProviderError]:
    """The number of chunks before the stream's error, and the error."""
    provider, at = adapter
    came: list[dict[str, Any]] = []

    async def read() -> None:
        async with contextlib.aclosing(provider.stream(at, request or chat("one two three four"))) as stream:
            async for chunk in stream:
                came.append(chunk)

    with pytest.raises(ProviderError) as caught:
        await read()
    return len(came), caught.value


def shape(outcome: CallFailed) -> tuple[int, str, str | None]:
    return outcome.status, outcome.type, outcome.code


async def test_a_prompt_that_is_too_long(adapter: Adapter) -> None:
    outcome = client_error(await complete(adapter, chat("word " * 9_000)))
    assert shape(outcome) == (400, "invalid_request_error", "context_length_exceeded")
    assert outcome.param == "messages"
    assert "maximum context length is 8192 tokens" in outcome.message


async def test_content_that_azure_filters(simulated_provider: Simulator) -> None:
    adapter = completion_provider_for("azure"), endpoint(simulated_provider, "azure-general")
    outcome = client_error(await complete(adapter, chat("filter-this prompt")))
    assert shape(outcome) == (400, "invalid_request_error", "content_filter")


async def test_our_own_key_is_not_the_callers_fault(adapter: Adapter) -> None:
    provider, at = adapter
    error = await complete((provider, replace(at, api_key="wrong-secret-key")))
    assert isinstance(error, ProviderRefused)
    assert (error.status, error.lasting) == (401, True)
    assert shape(client_error(error)) == (502, "server_error", "provider_account")


async def test_a_deployment_that_is_not_there_is_not_the_callers_fault(adapter: Adapter) -> None:
    provider, at = adapter
    error = await complete((provider, replace(at, model="gone")))
    assert error.status == 404
    assert shape(client_error(error)) == (502, "server_error", "provider_account")


async def test_too_many_calls_say_when_to_come_again(adapter: Adapter, simulated_provider: Simulator) -> None:
    simulated_provider.fail(fault("rate_limit", retry_after="7"))
    error = await complete(adapter)
    assert isinstance(error, ProviderRefused)
    assert not error.lasting
    assert shape(client_error(error)) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert error.retry_after == client_error(error).retry_after == 7


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({"kind": "error"}, (502, "server_error", "provider_error")),
        ({"kind": "error", "status": 503}, (503, "server_error", "provider_overloaded")),
        ({"kind": "error", "status": 504}, (504, "server_error", "provider_timeout")),
        ({"kind": "cut"}, (502, "server_error", "provider_error")),
        ({"kind": "cut", "when": "after"}, (502, "server_error", "provider_error")),
        ({"kind": "truncate"}, (502, "server_error", "provider_error")),
        ({"kind": "garbage"}, (502, "server_error", "provider_error")),
        ({"kind": "delay", "seconds": 5}, (504, "server_error", "provider_timeout")),
    ],
)
async def test_what_nobody_knows_the_end_of(
    adapter: Adapter, simulated_provider: Simulator, how: dict[str, Any], outcome: tuple[int, str, str]
) -> None:
    simulated_provider.fail(fault(**how))
    # On a busy machine even a connection takes a while, and a short timeout would be the trouble.
    error = await complete(adapter, chat(timeout=1.0 if how["kind"] == "delay" else 10.0))
    assert isinstance(error, ProviderUnclear)
    assert shape(client_error(error)) == outcome


async def test_a_connection_that_never_opened(adapter: Adapter) -> None:
    provider, at = adapter
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        error = await complete((provider, replace(at, base_url=base)))
    assert isinstance(error, ProviderRefused)
    assert not error.lasting
    assert shape(client_error(error)) == (502, "server_error", "provider_error")


@pytest.mark.parametrize("base", ["ftp://example.com", "http://", "no address"])
async def test_an_address_that_cannot_be_called(adapter: Adapter, base: str) -> None:
    provider, at = adapter
    error = await complete((provider, replace(at, base_url=base)))
    assert isinstance(error, ProviderRefused)
    assert error.lasting


async def test_a_key_with_a_line_break_is_not_told(adapter: Adapter) -> None:
    provider, at = adapter
    error = await complete((provider, replace(at, api_key="very-secret\n")))
    assert isinstance(error, ProviderRefused)
    assert error.lasting
    assert "very-secret" not in error.message


@pytest.mark.parametrize("kind", ["refuse", "rate_limit", "error"])
async def test_a_stream_that_is_refused_does_not_begin(
    adapter: Adapter, simulated_provider: Simulator, kind: str
) -> None:
    simulated_provider.fail(fault(kind, retry_after="3"))
    came, error = await broken(adapter)
    assert came == 0
    assert error.retry_after == 3


@pytest.mark.parametrize("kind", ["cut", "truncate", "garbage"])
async def test_a_stream_that_breaks_off(adapter: Adapter, simulated_provider: Simulator, kind: str) -> None:
    simulated_provider.fail(fault(kind, when="within"))
    came, error = await broken(adapter)
    assert came == 2
    assert isinstance(error, ProviderUnclear)


async def test_a_stream_that_does_not_end_in_time(adapter: Adapter, simulated_provider: Simulator) -> None:
    simulated_provider.fail(fault("delay", when="within", seconds=5))
    came, error = await broken(adapter, chat("one two three four", timeout=1.0))
    assert came == 2
    assert shape(client_error(error)) == (504, "server_error", "provider_timeout")


async def test_an_error_within_a_stream(adapter: Adapter, simulated_provider: Simulator) -> None:
    simulated_provider.fail(fault("error", when="within", code="server_error"))
    came, error = await broken(adapter)
    assert came == 2
    assert isinstance(error, ProviderUnclear)
    assert "told to do this" in str(error.raw_detail)
    assert shape(client_error(error)) == (502, "server_error", "provider_error")


async def test_content_that_is_filtered_within_a_stream(adapter: Adapter, simulated_provider: Simulator) -> None:
    simulated_provider.fail(fault("refuse", when="within", code="content_filter"))
    _, error = await broken(adapter)
    assert shape(client_error(error)) == (400, "invalid_request_error", "content_filter")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
@pytest.mark.parametrize("streamed", [False, True])
async def test_nobody_is_told_where_a_call_went(
    adapter: Adapter, simulated_provider: Simulator, status: int, streamed: bool
) -> None:
    at, host = adapter[1], "127.0.0.1"
    words = LEAKY.format(model=at.model, host=host, key=at.api_key)
    simulated_provider.fail(fault("refuse", status=status, message=words))
    error = (await broken(adapter))[1] if streamed else await complete(adapter)

    assert at.api_key not in str(error.raw_detail)
    outcome = str(client_error(error).body())
    for secret in (at.api_key, at.model, host, "org-Abc123def", "req_0123456789abcdef", "https://"):
        assert secret not in outcome


KEEPALIVES = (
    "data:\n\n",
    "data: \n\n",
    ":\n\n",
    ": OPENROUTER PROCESSING\n\n",
    "event: ping\n\n",
    "id: 7\nretry: 1\n\n",
)
SAID_TWICE = 'data:{"choices": [{"index": 0, "delta": {"content": "!"}}]}\r\n\r\n'


@pytest.mark.parametrize("text", [*KEEPALIVES, "".join(KEEPALIVES), "\r\n\r\ndata:\r\n\r\n"])
async def test_keep_alive_events_do_not_end_a_stream(
    adapter: Adapter, simulated_provider: Simulator, text: str
) -> None:
    simulated_provider.fail(fault("inject", when="within", chunks=3, text=text))
    assert await streamed(adapter) == "echo: one two three four"


async def test_an_event_without_a_space_and_with_other_line_ends(
    adapter: Adapter, simulated_provider: Simulator
) -> None:
    simulated_provider.fail(fault("inject", when="within", chunks=3, text=SAID_TWICE))
    assert await streamed(adapter) == "echo: one! two three four"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ('{"error": {"code": 429, "message": "slow down"}}', 429),
        ('{"error": "the model is gone"}', None),
        ('{"object": "error", "message": "no", "code": 400}', 400),
        ('{"choices": [{"index": 0, "delta": {"content": ""}, "error": {"code": 502, "message": "no"}}]}', 502),
        ('{"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}', None),
    ],
)
async def test_an_error_in_the_middle(
    adapter: Adapter, simulated_provider: Simulator, error: str, status: int | None
) -> None:
    simulated_provider.fail(fault("inject", when="within", chunks=3, text=f"data: {error}\n\n"))
    count, caught = await broken(adapter)
    assert count > 0
    assert caught.status in (status, 500 if status is None else status)


@pytest.mark.parametrize(
    ("choice", "outcome"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, (429, "rate_limit_error", "rate_limit_exceeded")),
        ({"error": {"code": 502, "message": "upstream"}}, (502, "server_error", "provider_error")),
        ({"error": "upstream"}, (502, "server_error", "provider_error")),
        ({"finish_reason": "error"}, (502, "server_error", "provider_error")),
    ],
)
async def test_an_error_in_a_choice_is_no_answer(
    adapter: Adapter, simulated_provider: Simulator, choice: dict[str, Any], outcome: tuple[int, str, str]
) -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "par"}, **choice}]}
    simulated_provider.fail(fault("inject", text=json.dumps(whole)))
    assert shape(client_error(await complete(adapter))) == outcome


async def test_a_list_of_errors_is_no_answer(adapter: Adapter, simulated_provider: Simulator) -> None:
    simulated_provider.fail(fault("inject", text=json.dumps({"error": [{"message": "upstream"}]})))
    assert (await complete(adapter)).status == 500


async def test_half_an_emoji_in_an_answer(adapter: Adapter, simulated_provider: Simulator) -> None:
    text = r'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "cut \ud83d"}, "logprobs": NaN}]}'
    simulated_provider.fail(fault("inject", text=text))
    provider, at = adapter
    answer = await provider.complete(at, chat())
    assert json.loads(orjson.dumps(answer))["choices"][0]["message"]["content"] == "cut \ufffd"

    event = 'data: {"choices": [{"index": 0, "delta": {"content": " \\ud83d"}}]}\n\n'
    simulated_provider.fail(fault("inject", when="within", chunks=3, text=event))
    assert await streamed(adapter) == "echo: one \ufffd two three four"


async def streamed(adapter: Adapter) -> str:
    provider, at = adapter
    async with contextlib.aclosing(provider.stream(at, chat("one two three four"))) as stream:
        chunks = [chunk async for chunk in stream]
    orjson.dumps(chunks)
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
