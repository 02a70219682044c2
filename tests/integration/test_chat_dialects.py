"""The contract of `CompletionProvider`, held by the translated dialects: answers and streams."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from local.provider import Latency, Simulator
from manifold.providers import Endpoint
from manifold.providers.registry import completion_provider_for
from tests.support.chat_dialects import PROVIDERS, Dialect, chat, chunks
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.chat_dialects",)
pytestmark = pytest.mark.usefixtures("closed_providers")


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


async def test_an_answer(dialect: Dialect) -> None:
    provider, at = dialect
    system = {"role": "system", "content": "be kind"}
    user = {"role": "user", "content": [{"type": "text", "text": "hello"}, PICTURE]}
    request = chat(messages=[system, user], temperature=0.5, top_p=1, stop="never", max_tokens=50, user=None)
    answer = await provider.complete(at, request)

    ChatCompletion.model_validate(answer)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].startswith("echo: hello [")
    assert answer["model"] == at.model
    assert answer["usage"]["prompt_tokens"] == 4


async def test_an_answer_that_is_cut(dialect: Dialect) -> None:
    provider, at = dialect
    answer = await provider.complete(at, chat("one two three", max_completion_tokens=2))
    assert answer["choices"][0]["message"]["content"] == "echo: one"
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_stop_sequence(dialect: Dialect) -> None:
    provider, at = dialect
    answer = await provider.complete(at, chat("one two three", stop=["two"]))
    assert answer["choices"][0]["message"]["content"] == "echo: one "


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_tool_call_and_its_result(dialect: Dialect, choice: object) -> None:
    provider, at = dialect
    called = (await provider.complete(at, chat("Paris", tools=[WEATHER], tool_choice=choice)))["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    (call,) = called["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": call["function"]["arguments"]}
    assert "Paris" in call["function"]["arguments"]

    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    question = {"role": "user", "content": "Paris"}
    answer = await provider.complete(at, chat(messages=[question, called["message"], result], tools=[WEATHER]))
    assert answer["choices"][0]["message"]["content"] == "echo: sunny"


async def test_the_results_of_parallel_calls(dialect: Dialect) -> None:
    provider, at = dialect
    calls = [
        {"id": f"call_{city}", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        for city in ("Paris", "Rome")
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in calls]
    messages = [
        {"role": "user", "content": "both"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        *results,
    ]
    answer = await provider.complete(at, chat(messages=messages, tools=[WEATHER]))
    assert answer["choices"][0]["message"]["content"].endswith("sunny")


@pytest.mark.parametrize("nothing", ["", " ", [{"type": "text", "text": ""}]])
async def test_empty_texts_are_no_error(dialect: Dialect, nothing: object) -> None:
    """A tool with an empty result, and a caller that sends an empty text beside its picture or its calls."""
    provider, at = dialect
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": " "}, PICTURE]},
        {"role": "assistant", "content": nothing, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": nothing},
    ]
    answer = await provider.complete(at, chat(messages=messages, tools=[WEATHER]))
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_of_a_json_schema(dialect: Dialect) -> None:
    provider, at = dialect
    answer = await provider.complete(at, chat("Ann", response_format=JSON_SCHEMA))
    assert answer["choices"][0]["message"]["content"] == '{"name": "Ann"}'


async def test_an_effort(dialect: Dialect) -> None:
    provider, at = dialect
    request = chat("hello", reasoning_effort="low")
    assert (await provider.complete(at, request))["choices"][0]["message"]["content"] == "echo: hello"


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-4-6"])
async def test_a_thought_is_given_back_as_it_came(simulated_provider: Simulator, model: str) -> None:
    at = replace(endpoint(simulated_provider, "anthropic"), model=model)
    provider = completion_provider_for("anthropic")
    thinking: dict[str, Any] = {"reasoning_effort": "medium", "tools": [WEATHER]}
    called = (await provider.complete(at, chat("the weather", **thinking)))["choices"][0]["message"]
    assert called["reasoning_content"] == "I was asked to echo."

    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "sunny"}
    question = {"role": "user", "content": "the weather"}
    await provider.complete(at, chat(messages=[question, called, result], **thinking))
    *_, entry = simulated_provider.log("anthropic")
    assert entry["body"]["messages"][1]["content"][0] == called["thinking_blocks"][0]


async def test_a_conversation_that_another_provider_began(simulated_provider: Simulator) -> None:
    """Each provider takes the answers of each other: a fallback continues the conversation."""
    dialect = [(completion_provider_for(name), endpoint(simulated_provider, name)) for name in PROVIDERS]
    question = {"role": "user", "content": "the weather"}
    for provider, at in dialect:
        called = (await provider.complete(at, chat("the weather", tools=[WEATHER])))["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "sunny"}
        for other, there in dialect:
            request = chat(messages=[question, called, result], tools=[WEATHER])
            answer = await other.complete(there, request)
            assert answer["choices"][0]["message"]["content"] == "echo: sunny"


async def test_gemini_3_takes_calls_that_it_did_not_make(simulated_provider: Simulator) -> None:
    at = replace(endpoint(simulated_provider, "gemini"), model="gemini-3-pro")
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "the weather"},
        {"role": "assistant", "tool_calls": [call, call | {"id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": "wet"},
    ]
    answer = await completion_provider_for("gemini").complete(at, chat(messages=messages, tools=[WEATHER]))
    assert answer["choices"][0]["message"]["content"] == "echo: sunny wet"


async def test_several_choices_and_their_probabilities(simulated_provider: Simulator) -> None:
    dialect = completion_provider_for("gemini"), endpoint(simulated_provider, "gemini")
    answer = await dialect[0].complete(dialect[1], chat("hello", n=2, logprobs=True, top_logprobs=1))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]

    received = await chunks(dialect, chat("hello", n=2))
    assert {choice["index"] for chunk in received for choice in chunk["choices"]} == {0, 1}


async def test_a_stream(dialect: Dialect) -> None:
    received = await chunks(dialect, chat("hello there", stream_options={"include_usage": True}))

    for chunk in received:
        ChatCompletionChunk.model_validate(chunk)
    deltas = [choice["delta"] for chunk in received for choice in chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == "echo: hello there"
    assert [chunk["choices"][0]["finish_reason"] for chunk in received[:-1]] == [None] * (len(received) - 2) + ["stop"]
    assert received[-1]["choices"] == []
    assert received[-1]["usage"]["completion_tokens"] == 3


async def test_a_stream_of_a_tool_call(dialect: Dialect) -> None:
    received = await chunks(dialect, chat("Paris", tools=[WEATHER], tool_choice="required"))
    pieces = [call for chunk in received for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert pieces[0]["function"]["name"] == "weather"
    assert {piece["index"] for piece in pieces} == {0}
    assert "".join(piece["function"]["arguments"] for piece in pieces).replace(" ", "") == '{"city":"Paris"}'
    assert received[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_chunks_arrive_as_they_are_sent(dialect: Dialect, simulated_provider: Simulator) -> None:
    provider, at = dialect
    simulated_provider.state.set_latency(account_of(at, simulated_provider), Latency(between_tokens=0.1))
    came = []
    async with contextlib.aclosing(provider.stream(at, chat("one two three"))) as stream:
        async for _ in stream:
            came.append(time.monotonic())
    assert came[-1] - came[0] > 0.2


async def test_a_stream_that_is_left_closes_its_connection(dialect: Dialect, simulated_provider: Simulator) -> None:
    provider, at = dialect
    simulated_provider.state.set_latency(account_of(at, simulated_provider), Latency(between_tokens=0.2))
    async with contextlib.aclosing(provider.stream(at, chat("one two three four five"))) as stream:
        async for _ in stream:
            break
    assert await left_early(simulated_provider)


async def test_a_cancelled_call_closes_its_connection(dialect: Dialect, simulated_provider: Simulator) -> None:
    provider, at = dialect
    simulated_provider.state.set_latency(account_of(at, simulated_provider), Latency(answer=30))
    task = asyncio.ensure_future(provider.complete(at, chat()))
    await asyncio.sleep(0.2)
    task.cancel()
    assert await left_early(simulated_provider)


def account_of(at: Endpoint, simulator: Simulator) -> str:
    return next(account.name for account in simulator.state.accounts.values() if account.key == at.api_key)


async def left_early(simulator: Simulator) -> bool:
    """Whether the client of the one call left before the end of its answer."""
    for _ in range(400):
        (entry,) = simulator.log(route="chat.create")
        if "ended" in entry:
            return bool(entry["disconnected"])
        await asyncio.sleep(0.005)
    raise AssertionError("the call did not end")
