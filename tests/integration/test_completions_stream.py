"""Streamed completions: the events as they are sent, and as OpenAI's own client reads them."""

import asyncio
import json
import time
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from starlette.types import Message

from completions.app import create
from local.provider import Fault, Latency
from manifold.access import Caller
from manifold.config import Environment
from manifold.gateway import Gateway
from manifold.store.spend import SpendFilter
from tests.support import gateways
from tests.support.completions_app import HELLO, NO_RETRIES, CompletionsApp, answer_text

pytest_plugins = ("tests.support.completions_app",)

PROMPT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me of the sea and the sky"}]


async def events(completions_app: CompletionsApp, **body: Any) -> list[Any]:
    """The data of each event of a streamed answer: an object, or the text that ends it."""
    answer = await completions_app.post(**NO_RETRIES | body, stream=True)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    *parts, rest = answer.text.split("\n\n")
    assert rest == ""
    data = [part.removeprefix("data: ") for part in parts]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


async def test_the_sdk_reads_what_a_plain_answer_says(completions_app: CompletionsApp) -> None:
    async with completions_app.sdk() as sdk:
        plain = await sdk.chat.completions.create(model="mini", messages=PROMPT)
        stream = await sdk.chat.completions.create(model="mini", messages=PROMPT, stream=True)
        chunks = [chunk async for chunk in stream]

    assert {chunk.model for chunk in chunks} == {"mini"}
    assert len(chunks) > 3
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_the_sdks_stream_helper(completions_app: CompletionsApp) -> None:
    async with completions_app.sdk() as sdk, sdk.chat.completions.stream(model="mini", messages=PROMPT) as stream:
        final = await stream.get_final_completion()

    assert final.choices[0].message.content


async def test_usage_is_sent_to_those_who_ask(completions_app: CompletionsApp) -> None:
    *_, usage, done = await events(completions_app, model="mini", stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]["total_tokens"] > 0) == ([], True)

    *chunks, done = await events(completions_app, model="mini")
    assert done == "[DONE]"
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


async def test_a_page_of_an_allowed_origin_reads_a_stream(completions_app: CompletionsApp) -> None:
    variables = {**completions_app.gateway.environment.values, "MANIFOLD_ALLOWED_ORIGINS": "https://app.example.com"}
    app = create(Gateway(Environment(variables)))
    async with gateways.client(app) as client:
        client.headers["origin"] = "https://app.example.com"
        answer = await client.post("/chat/completions", json={"model": "mini", "messages": HELLO, "stream": True})

    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert {"x-manifold-deployment", "x-manifold-attempts", "x-request-id"} <= set(answer.headers) & set(
        answer.headers["access-control-expose-headers"].split(", ")
    )


async def test_headers_tell_how_it_was_come_by(completions_app: CompletionsApp) -> None:
    completions_app.provider.fail(Fault(kind="error", account="azure-general"))

    answer = await completions_app.post(model="pair", messages=HELLO, stream=True)

    assert answer.headers["x-manifold-deployment"] == "pair-special"
    assert answer.headers["x-manifold-attempts"] == "2"


async def test_a_silent_model_keeps_the_connection_alive(
    completions_app: CompletionsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By comments, which SDKs pass over."""
    monkeypatch.setattr("completions.streams.COMMENT_SECONDS", 0.05)
    completions_app.provider.state.set_latency("openai", Latency(between_tokens=0.2))
    answer = await completions_app.post(model="mini", messages=HELLO, stream=True)
    assert answer.text.count(": the model goes on\n\n") > 3
    async with completions_app.sdk() as sdk:
        stream = await sdk.chat.completions.create(model="mini", messages=PROMPT, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_a_model_that_thinks_for_long_has_its_response_begun(
    completions_app: CompletionsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("completions.streams.HEAD_SECONDS", 0.1)
    monkeypatch.setattr("completions.streams.COMMENT_SECONDS", 0.1)
    completions_app.provider.state.set_latency("openai", Latency(answer=0.5))
    answer = await completions_app.post(model="mini", messages=HELLO, stream=True)
    assert answer.text.startswith(": the model goes on\n\n: the model goes on\n\n")
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_a_failure_after_the_response_has_begun_is_an_event(
    completions_app: CompletionsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("completions.streams.HEAD_SECONDS", 0.1)
    completions_app.provider.state.set_latency("openai", Latency(answer=0.5))
    completions_app.provider.fail(Fault(kind="error", account="openai", times=None, when="after"))
    answer = await completions_app.post(**NO_RETRIES | {"model": "mini", "messages": HELLO, "stream": True})
    assert answer.status_code == 200
    *_, last = answer.text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "provider_error"


async def test_text_completions_stream_too(completions_app: CompletionsApp) -> None:
    async with completions_app.sdk() as sdk:
        stream = await sdk.completions.create(model="mini", prompt="Hello there", stream=True)
        texts = [chunk.choices[0].text async for chunk in stream]

    assert "".join(texts)


async def test_a_failure_before_the_first_token_is_a_status(completions_app: CompletionsApp) -> None:
    completions_app.provider.fail(Fault(kind="rate_limit", account="openai", times=None))

    status, error = await completions_app.error(model="mini", stream=True)

    assert (status, error["code"]) == (429, "rate_limit_exceeded")


async def test_a_failure_in_the_middle_is_an_event_that_ends_it(completions_app: CompletionsApp) -> None:
    completions_app.provider.fail(Fault(kind="cut", account="openai", when="within", chunks=3))

    *chunks, last = await events(completions_app, model="mini", messages=PROMPT)

    assert all("choices" in chunk for chunk in chunks)
    assert last["error"].keys() == {"message", "type", "param", "code"}
    assert (last["error"]["code"], "broke off" in last["error"]["message"]) == ("provider_error", True)

    completions_app.provider.fail(Fault(kind="cut", account="openai", when="within", chunks=3))
    async with completions_app.sdk() as sdk:
        stream = await sdk.chat.completions.create(model="mini", messages=PROMPT, stream=True)
        with pytest.raises(openai.APIError, match=last["error"]["message"]):
            [chunk async for chunk in stream]


async def test_a_stream_ends_at_the_deadline(completions_app: CompletionsApp) -> None:
    completions_app.set_latency("mini", between_tokens=0.1)
    began = time.monotonic()

    *_, last = await events(
        completions_app, model="mini", messages=[{"role": "user", "content": "word " * 100}], timeout=0.5
    )

    assert time.monotonic() - began < 2
    assert last["error"]["code"] == "deadline_exceeded"


async def test_the_first_real_token_wins(completions_app: CompletionsApp) -> None:
    completions_app.set_latency("general", first_token=5)
    completions_app.set_latency("mini", answer=0.3)

    *chunks, done = await events(completions_app, model="general,mini", fastest_response=True)

    assert done == "[DONE]"
    assert {chunk["model"] for chunk in chunks} == {"mini"}
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == answer_text(
        await completions_app.chat("mini")
    )


async def test_if_none_begins_each_cause_is_told(completions_app: CompletionsApp) -> None:
    completions_app.provider.fail(Fault(kind="rate_limit", times=None))

    status, error = await completions_app.error(model="general,mini", fastest_response=True, stream=True)

    assert (status, error["code"]) == (429, "no_model_answered")


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_a_client_that_leaves_has_had_is_written_down(
    at_once: bool, completions_app: CompletionsApp, caplog: pytest.LogCaptureFixture
) -> None:
    completions_app.set_latency("mini", between_tokens=0.05)
    key = await completions_app.add_key("sk-of-one-who-leaves", ["mini"])
    body = json.dumps({"model": "mini", "messages": PROMPT, "stream": True}).encode()
    leaves = asyncio.Event()

    async def receive() -> Message:
        if not body_sent:
            body_sent.append(True)
            return {"type": "http.request", "body": body}
        if not at_once:
            await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if at_once:
            await asyncio.sleep(0.1)
        if message.get("body"):
            leaves.set()

    body_sent: list[bool] = []
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    await completions_app.app(_scope("/chat/completions", headers), receive, send)

    async with completions_app.gateway.store.session() as tables:
        (call,) = await tables.spend.page(Caller(admin=True), SpendFilter(), limit=10)
    assert (call.model_group, call.status, call.output_tokens > 0) == ("mini", 499, not at_once)
    assert [record.message for record in caplog.records if record.name == "psycopg"] == []  # it was not interrupted


def _scope(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """A request to a server that reports a disconnect by a message, as uvicorn does."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
