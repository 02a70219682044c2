"""Contract test of the simulated provider's completions: the SDK's types, and the requests that OpenAI refuses."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import APIConnectionError, AzureOpenAI, BadRequestError, NotFoundError, OpenAI
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import BaseModel

from local.provider import Latency, Simulator
from local.provider.completion_requests import ChatRequest, EmbeddingRequest, TextRequest

pytest_plugins = ("tests.support.provider_fixtures",)

MODEL = "gpt-4.1-mini"
PART = "messages.0.content.0"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


@pytest.fixture
def client(simulated_provider: Simulator) -> Iterator[OpenAI]:
    key = simulated_provider.state.accounts["openai"].key
    with OpenAI(base_url=simulated_provider.base("openai"), api_key=key, max_retries=0) as made:
        yield made


def answer_text(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ChatRequest, chat_create_params.CompletionCreateParamsStreaming),
        (TextRequest, completion_create_params.CompletionCreateParamsStreaming),
        (EmbeddingRequest, embedding_create_params.EmbeddingCreateParams),
    ],
)
def test_the_parameters_are_those_of_the_sdk(ours: type[BaseModel], theirs: type) -> None:
    assert set(ours.model_fields) == set(theirs.__annotations__)


def test_the_answer_echoes_and_counts(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=answer_text("two words"))
    assert answer.choices[0].message.content == "echo: two words"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)


def test_the_stream_helper_adds_up(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=answer_text("one two"), n=2, stream_options={"include_usage": True}
    ) as stream:
        stream.until_done()
        answer = stream.get_final_completion()
    assert [choice.message.content for choice in answer.choices] == ["echo: one two"] * 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}, "auto"])
def test_a_tool_is_called(client: OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=answer_text("what weather?"), tools=[WEATHER], tool_choice=choice
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "what weather?", "days": [1]}')
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_tool_call_is_streamed(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=answer_text("weather"), tools=[WEATHER]) as stream:
        stream.until_done()
        choice = stream.get_final_completion().choices[0]
    (call,) = choice.message.tool_calls or []
    assert call.function.arguments == '{"city": "weather", "days": [1]}'


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ({"type": "json_object"}, '{"echo": "hi"}'),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, '{"city": "hi", "days": [1]}'),
    ],
)
def test_an_answer_in_a_response_format(client: OpenAI, form: Any, content: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=answer_text("hi"), response_format=form)
    assert answer.choices[0].message.content == content


@pytest.mark.parametrize(
    ("how", "content", "finish"),
    [
        ({"max_completion_tokens": 2}, "echo: one", "length"),
        ({"stop": "two"}, "echo: one ", "stop"),
        ({"stop": ["three", "two"]}, "echo: one ", "stop"),
    ],
)
def test_an_answer_ends_early(client: OpenAI, how: dict[str, Any], content: str, finish: str) -> None:
    choice = client.chat.completions.create(model=MODEL, messages=answer_text("one two three"), **how).choices[0]
    assert (choice.message.content, choice.finish_reason) == (content, finish)


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(client: OpenAI, form: Any) -> None:
    answer = client.embeddings.create(model=MODEL, input=["a", "b", "a"], dimensions=3, encoding_format=form)
    first, second, third = (each.embedding for each in answer.data)
    assert first == third != second


def test_embeddings_as_the_sdk_asks_for_them(client: OpenAI) -> None:
    (data,) = client.embeddings.create(model=MODEL, input="text").data
    assert all(0 <= number <= 1 for number in data.embedding)


def test_legacy_completions(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["a", "b"], max_tokens=5)
    assert [choice.text for choice in answer.choices] == ["echo: a", "echo: b"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x", "best_of": 1, "n": 2}, "best_of"),
        ({"prompt": "x", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "x", "messages": []}, "messages"),
    ],
)
def test_a_bad_legacy_request(client: OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.post("/completions", body={"model": MODEL, **body}, cast_to=object)
    assert (caught.value.param or "").startswith(param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "call_1"}]}, "messages.[0].role"),
        ({"messages": answer_text("x"), "temperature": 3}, "temperature"),
        ({"messages": answer_text("x"), "n": 0}, "n"),
        ({"messages": answer_text("x"), "nonsense": 1}, "nonsense"),
        ({"messages": answer_text("x"), "tool_choice": "auto"}, "tool_choice"),
        ({"messages": answer_text("x"), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"messages": answer_text("x"), "function_call": "auto"}, "function_call"),
        ({"messages": answer_text("x"), "modalities": ["text", "audio"]}, "audio"),
        ({"messages": answer_text("x"), "audio": {"format": "midi", "voice": "alloy"}}, "audio.format"),
        ({"messages": answer_text("x"), "web_search_options": {"depth": 1}}, "web_search_options.depth"),
        (
            {"messages": answer_text("x"), "tools": [{"type": "custom", "custom": {"name": "a b"}}]},
            "tools.0.custom.name",
        ),
        ({"messages": answer_text("x"), "tools": [{"type": "custom", "function": {"name": "a"}}]}, "tools.0.custom"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "input_audio": {}}]}]},
            PART + ".input_audio.data",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
            PART + ".cache_control",
        ),
        ({"messages": answer_text("x"), "stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": answer_text("x"), "top_logprobs": 2}, "top_logprobs"),
        ({"messages": answer_text("x" + " word" * 9_000)}, "messages"),
    ],
)
def test_a_bad_request(client: OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.post("/chat/completions", body={"model": MODEL, **body}, cast_to=object)
    assert caught.value.param == param


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=answer_text("x"))
    assert caught.value.code == "model_not_found"


def test_azure_names_the_deployment_in_the_address(simulated_provider: Simulator) -> None:
    account = simulated_provider.state.accounts["azure-general"]
    base = simulated_provider.base("azure-general")
    with AzureOpenAI(azure_endpoint=base, api_key=account.key, api_version="2024-10-21", max_retries=0) as client:
        answer = client.chat.completions.create(model=account.chat_model, messages=answer_text("hi"))
        assert answer.choices[0].message.content == "echo: hi"
        with pytest.raises(NotFoundError) as caught:
            client.chat.completions.create(model="gone", messages=answer_text("hi"))
    assert caught.value.code == "DeploymentNotFound"


def test_an_account_has_the_latency_that_was_set(client: OpenAI, simulated_provider: Simulator) -> None:
    latency = Latency(answer=0.1, first_token=0.1, between_tokens=0.02)
    httpx.post(f"{simulated_provider.url}/control/latency/openai", json=latency.model_dump()).raise_for_status()
    started = time.monotonic()
    for _ in client.chat.completions.create(model=MODEL, messages=answer_text("one two"), stream=True):
        pass
    assert time.monotonic() - started > 0.2 + 4 * 0.02


def test_when_each_chunk_was_sent_is_noted(client: OpenAI, simulated_provider: Simulator) -> None:
    simulated_provider.state.set_latency("openai", Latency(between_tokens=0.02))
    before = time.time()
    chunks = list(client.chat.completions.create(model=MODEL, messages=answer_text("one two"), stream=True))
    (entry,) = simulated_provider.log(route="chat.create")
    sent = entry["sent"]
    assert len(sent) == len(chunks)
    assert before < sent[0]
    assert all(later - earlier > 0.015 for earlier, later in itertools.pairwise(sent))
    assert sent[-1] < time.time()


def test_a_client_that_leaves_is_noted(client: OpenAI, simulated_provider: Simulator) -> None:
    simulated_provider.state.set_latency("openai", Latency(answer=30))
    with pytest.raises(APIConnectionError):
        client.with_options(timeout=0.2).chat.completions.create(model=MODEL, messages=answer_text("hi"))
    time.sleep(0.2)
    (entry,) = simulated_provider.log(route="chat.create")
    assert entry["disconnected"]
    assert entry["ended"] - entry["at"] < 5
