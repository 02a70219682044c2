"""The address of a completion's call, the meaning of its failures, and what the caller reads of them."""

import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import aiohttp
import orjson
import pytest

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.provider_errors import client_error
from manifold.providers import Endpoint, completion_client
from manifold.providers.addresses import azure_call, openai_call
from manifold.providers.completion_client import CompletionClient
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.failures import failure, failure_within
from manifold.providers.http_call import HttpCall
from manifold.providers.openai.completions import OpenAICompletions
from manifold.providers.sse import Event

CALL = HttpCall(
    "https://west.example.com/v1/chat/completions",
    {"Authorization": "Bearer sk-very-secret-key", "x": "1"},
    {},
    5.0,
    "o1",
)


def failed(status: int, body: object) -> ProviderError:
    return failure(status, {}, orjson.dumps(body), CALL)


def test_addresses() -> None:
    at = Endpoint(model="a b", base_url="https://r.example.com/v1/", api_key="key", organization="org-1")
    call = openai_call(at, "chat", "completions")
    assert call.address == "https://r.example.com/v1/chat/completions"
    assert call.headers == {"Authorization": "Bearer key", "OpenAI-Organization": "org-1"}

    dated = Endpoint(model="m", base_url="https://r.example.com/openai", api_key="key", api_version="2024-10-21")
    call = azure_call(dated, "deployments", "a b", "chat", "completions")
    assert call.address == ("https://r.example.com/openai/deployments/a%20b/chat/completions?api-version=2024-10-21")


def test_an_address_keeps_the_query_of_its_base() -> None:
    assert HttpCall("https://h/x?a=1", {}, {"b": "2 3"}, 5.0).address == "https://h/x?a=1&b=2+3"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"error": {"message": "m", "type": "invalid_request_error", "param": "n", "code": "bad"}}, "bad", "n"),
        ({"error": {"message": "m", "type": "invalid_request_error", "code": None}}, "invalid_request_error", None),
        ({"error": {"message": "m", "code": "400", "param": ["n"]}}, "", None),
        ({"error": {"message": "m", "code": 400, "status": "INVALID_ARGUMENT"}}, "INVALID_ARGUMENT", None),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}, "invalid_request_error", None),
        (
            {"object": "error", "message": "m", "type": "BadRequestError", "param": None, "code": 400},
            "BadRequestError",
            None,
        ),
        ({"message": "m"}, None, None),
        ({"error": "m"}, "", None),
    ],
)
def test_each_providers_error_is_read(body: dict[str, Any], code: str | None, param: str | None) -> None:
    error = failed(400, body)
    assert (error.message, error.raw_detail, error.detail, error.code, error.param) == (
        "HTTP 400",
        "m",
        "m",
        code,
        param,
    )
    assert client_error(error).code == ("bad" if code == "bad" else None), "a caller has the type for the rest"


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "Input is too long for requested model.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
        "too many tokens: total number of tokens in the prompt exceeds the limit",
    ],
)
def test_a_prompt_that_is_too_long_has_one_code(words: str) -> None:
    answer = client_error(failed(400, {"message": words}))
    assert (answer.status, answer.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "m", "type": "overloaded_error"}, 529),
        ({"message": "m", "type": "rate_limit_error"}, 429),
        ({"message": "m", "code": "content_filter", "status": 400}, 400),
        ({"message": "m", "code": 502}, 502),
        ({"message": "m", "type": "server_error"}, 500),
        ({"message": "m", "code": "9"}, 500),
    ],
)
def test_an_error_within_a_stream_has_a_status(error: dict[str, Any], status: int) -> None:
    assert failure_within({"error": error}, CALL).status == status


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": null}', b'{"error": {}}', b"\xff"])
def test_an_error_without_words_is_told_in_ours(body: bytes) -> None:
    answer = client_error(failure(400, {}, body, CALL))
    assert (answer.status, answer.message, answer.code) == (400, "The provider rejected the request as invalid.", None)


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
def test_an_unpaid_bill_has_no_retry_after(code: str) -> None:
    answer = client_error(failed(429, {"error": {"message": "m", "code": code}}))
    assert (answer.status, answer.code) == (502, "provider_account")


def test_what_a_caller_is_told_is_scrubbed() -> None:
    words = "o1 at https://west.example.com/x?key=1 (west.example.com), sk-very-secret-key, req_1234567890; not o1-mini"
    error = failed(400, {"error": {"message": words}})
    assert error.detail == "*** at *** (***), ***, ***; not o1-mini"
    assert "sk-very-secret-key" not in error.message


def test_a_model_and_a_host_are_scrubbed_however_they_are_written() -> None:
    error = failed(400, {"error": {"message": "O1, o1-2024-12-17 and o1-20241217 of West.Example.com:443"}})
    assert error.detail == "***, *** and *** of ***"


def test_a_refusal_and_an_unclear_end_tell_a_caller_the_same() -> None:
    for error in (ProviderRefused("secret"), ProviderUnclear("secret")):
        assert client_error(error).body() == {
            "error": {
                "message": "The provider gave no answer.",
                "type": "server_error",
                "param": None,
                "code": "provider_error",
            }
        }


@pytest.mark.parametrize(
    ("function", "provider", "loaded", "spared"),
    [
        ("completion_provider_for", "azure", "aiohttp", "httpx"),
        ("completion_provider_for", "gemini", "aiohttp", "httpx"),
        ("batch_provider_for", "azure", "httpx", "aiohttp"),
        ("batch_provider_for", "gemini", "httpx", "aiohttp"),
        ("batch_provider_for", "vertex_ai", "httpx", "aiohttp"),
        ("batch_provider_for", "vertex_ai", "httpx", "google"),
    ],
)
def test_a_function_loads_the_client_that_it_uses_alone(function: str, provider: str, loaded: str, spared: str) -> None:
    program = (
        f"import sys; from manifold.providers.registry import {function}; {function}({provider!r})\n"
        f"print({loaded!r} in sys.modules, {spared!r} in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert ran.stdout.split() == ["True", "False"]


class Answering(CompletionClient):
    """Answers every call with this body; of a stream, as its one event."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__()
        self._body = body

    async def post(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> dict[str, Any]:
        return self._body

    async def events(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> AsyncGenerator[Event, None]:
        yield Event("", orjson.dumps(self._body))


@pytest.mark.parametrize(
    "body",
    [
        {"choices": {"0": {}}},
        {"choices": [None]},
        {"choices": ["text"]},
        {"choices": [{"delta": "text"}]},
    ],
)
async def test_an_answer_of_another_shape_is_none(body: dict[str, Any]) -> None:
    provider = OpenAICompletions(Answering(body))
    at = Endpoint(model="m", base_url="https://r.example.com/v1", api_key="key")
    request = ProviderRequest("/chat/completions", {"messages": []}, 5.0)

    with pytest.raises(ProviderUnclear, match="shape"):
        await provider.complete(at, request)
    with pytest.raises(ProviderUnclear, match="shape"):
        await anext(provider.stream(at, request))


@pytest.mark.parametrize("body", [{}, {"choices": None}, {"error": {}}])
async def test_an_answer_without_choices_is_none(body: dict[str, Any]) -> None:
    at = Endpoint(model="m", base_url="https://r.example.com/v1", api_key="key")

    for route in ("/chat/completions", "/completions"):
        with pytest.raises(ProviderUnclear, match="choices"):
            await OpenAICompletions(Answering(body)).complete(at, ProviderRequest(route, {}, 5.0))
    assert await OpenAICompletions(Answering({"data": []})).complete(at, ProviderRequest("/embeddings", {}, 5.0)) == {
        "data": []
    }


@pytest.mark.parametrize("usage", [7, "7", [7], True])
async def test_a_usage_that_cannot_be_read_is_none(usage: object) -> None:
    provider = OpenAICompletions(Answering({"choices": [], "usage": usage}))
    at = Endpoint(model="m", base_url="https://r.example.com/v1", api_key="key")
    request = ProviderRequest("/chat/completions", {"messages": []}, 5.0)

    assert (await provider.complete(at, request))["usage"] is None
    assert (await anext(provider.stream(at, request)))["usage"] is None


class Telling(CompletionClient):
    """A provider that sends these events, and then closes the connection."""

    def __init__(self, *data: object) -> None:
        super().__init__()
        self._data = data

    async def events(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> AsyncGenerator[Event, None]:
        for one in self._data:
            yield Event("message", one if isinstance(one, bytes) else orjson.dumps(one))


def chunk(index: object = 0, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": finish}]}


async def count_chunks(*data: object) -> int:
    """The number of chunks of a stream of these events, if it is complete."""
    at = Endpoint(model="m", base_url="https://r.example.com/v1", api_key="key")
    stream = OpenAICompletions(Telling(*data)).stream(at, ProviderRequest("/chat/completions", {"messages": []}, 5.0))
    return len([one async for one in stream])


@pytest.mark.parametrize(
    "data",
    [
        (chunk(), chunk(finish="stop")),
        (chunk(), chunk(finish="stop"), b"[DONE]"),
        (chunk(), chunk(finish="stop"), b" [DONE] "),
        (chunk(0), chunk(1, "length"), chunk(0, "stop")),
        (chunk(), chunk(finish="stop"), {"choices": [], "usage": {"total_tokens": 3}}),
        (chunk([0]), chunk([0], "stop")),
        (chunk(), b"[DONE]"),
    ],
)
async def test_a_stream_is_whole_when_each_choice_has_finished(data: Sequence[object]) -> None:
    """Some servers leave out `[DONE]`."""
    assert await count_chunks(*data) == sum(isinstance(one, dict) for one in data)


@pytest.mark.parametrize("data", [(), (chunk(),), (chunk(0), chunk(1), chunk(0, "stop")), ({"choices": []},)])
async def test_a_stream_that_ends_before_its_choices_do_broke_off(data: Sequence[object]) -> None:
    with pytest.raises(ProviderUnclear, match="broke off"):
        await count_chunks(*data)


def test_a_connection_that_does_not_open_in_time_is_told_from_one_that_is_refused() -> None:
    with pytest.raises(ProviderRefused) as late, completion_client._provider_errors(CALL):
        raise aiohttp.ConnectionTimeoutError
    assert (late.value.code, late.value.lasting, client_error(late.value).status) == ("timeout", False, 504)
