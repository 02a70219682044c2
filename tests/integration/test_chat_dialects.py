"""The contract of `ChatProvider`, held by the translated dialects against the simulated provider over HTTP."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from local.provider import Fault, Latency, Simulator
from local.provider.accounts import BEDROCK_MODEL, BEDROCK_PROFILE, BEDROCK_REGION
from manifold import config
from manifold.deployments import Deployments
from manifold.errors import CallFailed, InvalidRequest, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Signature
from manifold.providers.bedrock import signature
from manifold.providers.chat import ChatProvider, ProviderRequest
from manifold.providers.registry import chat_provider_for, close_providers, provider_for
from manifold.secrets import Secrets
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.provider_fixtures",)

Spoken = tuple[ChatProvider, Endpoint]
PROVIDERS = ("anthropic", "bedrock", "cohere", "gemini")
ACCOUNT = (502, "server_error", "provider_account")
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


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=PROVIDERS)
def spoken(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Spoken:
    return chat_provider_for(request.param), endpoint(simulated_provider, request.param)


@pytest.fixture
def own_role() -> Iterator[None]:
    """Before and after, the process has no AWS credentials from an earlier test."""
    signature._session.cache_clear()
    yield
    signature._session.cache_clear()


def chat(said: str = "hello there", timeout: float = 5.0, **more: Any) -> ProviderRequest:
    return ProviderRequest("/chat/completions", {"messages": [{"role": "user", "content": said}], **more}, timeout)


async def chunks(spoken: Spoken, request: ProviderRequest) -> list[dict[str, Any]]:
    provider, at = spoken
    async with contextlib.aclosing(provider.stream(at, request)) as stream:
        return [chunk async for chunk in stream]


async def failed(spoken: Spoken, request: ProviderRequest) -> tuple[int, str, str | None]:
    return shape((await error_of(spoken, request)).answer())


async def error_of(spoken: Spoken, request: ProviderRequest) -> ProviderError:
    provider, at = spoken
    with pytest.raises(ProviderError) as caught:
        await provider.complete(at, request)
    return caught.value


def shape(told: CallFailed) -> tuple[int, str, str | None]:
    return told.status, told.type, told.code


async def test_an_answer(spoken: Spoken) -> None:
    provider, at = spoken
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


async def test_an_answer_that_is_cut(spoken: Spoken) -> None:
    provider, at = spoken
    answer = await provider.complete(at, chat("one two three", max_completion_tokens=2))
    assert answer["choices"][0]["message"]["content"] == "echo: one"
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_stop_sequence(spoken: Spoken) -> None:
    provider, at = spoken
    answer = await provider.complete(at, chat("one two three", stop=["two"]))
    assert answer["choices"][0]["message"]["content"] == "echo: one "


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_tool_call_and_its_result(spoken: Spoken, choice: object) -> None:
    provider, at = spoken
    called = (await provider.complete(at, chat("Paris", tools=[WEATHER], tool_choice=choice)))["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    (call,) = called["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": call["function"]["arguments"]}
    assert "Paris" in call["function"]["arguments"]

    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    asked = {"role": "user", "content": "Paris"}
    answer = await provider.complete(at, chat(messages=[asked, called["message"], result], tools=[WEATHER]))
    assert answer["choices"][0]["message"]["content"] == "echo: sunny"


async def test_the_results_of_parallel_calls(spoken: Spoken) -> None:
    provider, at = spoken
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
async def test_texts_that_say_nothing_are_no_error(spoken: Spoken, nothing: object) -> None:
    """A tool that gives nothing, and a caller that sends a blank beside its picture or its calls."""
    provider, at = spoken
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": " "}, PICTURE]},
        {"role": "assistant", "content": nothing, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": nothing},
    ]
    answer = await provider.complete(at, chat(messages=messages, tools=[WEATHER]))
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_of_a_json_schema(spoken: Spoken) -> None:
    provider, at = spoken
    answer = await provider.complete(at, chat("Ann", response_format=JSON_SCHEMA))
    assert answer["choices"][0]["message"]["content"] == '{"name": "Ann"}'


async def test_an_effort(spoken: Spoken) -> None:
    provider, at = spoken
    request = chat("hello", reasoning_effort="low")
    assert (await provider.complete(at, request))["choices"][0]["message"]["content"] == "echo: hello"


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-4-6"])
async def test_a_thought_is_given_back_as_it_came(simulated_provider: Simulator, model: str) -> None:
    at = replace(endpoint(simulated_provider, "anthropic"), model=model)
    provider = chat_provider_for("anthropic")
    thinking: dict[str, Any] = {"reasoning_effort": "medium", "tools": [WEATHER]}
    called = (await provider.complete(at, chat("the weather", **thinking)))["choices"][0]["message"]
    assert called["reasoning_content"] == "I was asked to echo."

    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "sunny"}
    asked = {"role": "user", "content": "the weather"}
    await provider.complete(at, chat(messages=[asked, called, result], **thinking))
    *_, entry = simulated_provider.log("anthropic")
    assert entry["body"]["messages"][1]["content"][0] == called["thinking_blocks"][0]


async def test_a_conversation_that_another_provider_began(simulated_provider: Simulator) -> None:
    """Each takes what each has said: a fallback goes on where the first one stopped."""
    spoken = [(chat_provider_for(name), endpoint(simulated_provider, name)) for name in PROVIDERS]
    asked = {"role": "user", "content": "the weather"}
    for provider, at in spoken:
        called = (await provider.complete(at, chat("the weather", tools=[WEATHER])))["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "sunny"}
        for other, there in spoken:
            request = chat(messages=[asked, called, result], tools=[WEATHER])
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
    answer = await chat_provider_for("gemini").complete(at, chat(messages=messages, tools=[WEATHER]))
    assert answer["choices"][0]["message"]["content"] == "echo: sunny wet"


async def test_several_choices_and_their_probabilities(simulated_provider: Simulator) -> None:
    spoken = chat_provider_for("gemini"), endpoint(simulated_provider, "gemini")
    answer = await spoken[0].complete(spoken[1], chat("hello", n=2, logprobs=True, top_logprobs=1))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]

    told = await chunks(spoken, chat("hello", n=2))
    assert {choice["index"] for chunk in told for choice in chunk["choices"]} == {0, 1}


async def test_a_stream(spoken: Spoken) -> None:
    told = await chunks(spoken, chat("hello there", stream_options={"include_usage": True}))

    for chunk in told:
        ChatCompletionChunk.model_validate(chunk)
    deltas = [choice["delta"] for chunk in told for choice in chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == "echo: hello there"
    assert [chunk["choices"][0]["finish_reason"] for chunk in told[:-1]] == [None] * (len(told) - 2) + ["stop"]
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["completion_tokens"] == 3


async def test_a_stream_of_a_tool_call(spoken: Spoken) -> None:
    told = await chunks(spoken, chat("Paris", tools=[WEATHER], tool_choice="required"))
    pieces = [call for chunk in told for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert pieces[0]["function"]["name"] == "weather"
    assert {piece["index"] for piece in pieces} == {0}
    assert "".join(piece["function"]["arguments"] for piece in pieces).replace(" ", "") == '{"city":"Paris"}'
    assert told[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_chunks_come_as_they_are_told(spoken: Spoken, simulated_provider: Simulator) -> None:
    provider, at = spoken
    simulated_provider.state.set_latency(account_of(at, simulated_provider), Latency(between_tokens=0.1))
    came = []
    async with contextlib.aclosing(provider.stream(at, chat("one two three"))) as stream:
        async for _ in stream:
            came.append(time.monotonic())
    assert came[-1] - came[0] > 0.2


async def test_a_stream_that_is_left_closes_its_connection(spoken: Spoken, simulated_provider: Simulator) -> None:
    provider, at = spoken
    simulated_provider.state.set_latency(account_of(at, simulated_provider), Latency(between_tokens=0.2))
    async with contextlib.aclosing(provider.stream(at, chat("one two three four five"))) as stream:
        async for _ in stream:
            break
    assert await left_early(simulated_provider)


async def test_a_cancelled_call_closes_its_connection(spoken: Spoken, simulated_provider: Simulator) -> None:
    provider, at = spoken
    simulated_provider.state.set_latency(account_of(at, simulated_provider), Latency(answer=30))
    task = asyncio.ensure_future(provider.complete(at, chat()))
    await asyncio.sleep(0.2)
    task.cancel()
    assert await left_early(simulated_provider)


def account_of(at: Endpoint, simulator: Simulator) -> str:
    return next(account.name for account in simulator.state.accounts.values() if account.key == at.api_key)


async def left_early(simulator: Simulator) -> bool:
    """Whether the one call's client left before its answer was whole."""
    for _ in range(400):
        (entry,) = simulator.log(route="chat.create")
        if "ended" in entry:
            return bool(entry["disconnected"])
        await asyncio.sleep(0.005)
    raise AssertionError("the call did not end")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_content_that_is_filtered(simulated_provider: Simulator, provider: str) -> None:
    """Cohere refuses, as Azure does; the others answer with the reason and no words, as OpenAI does."""
    spoken = chat_provider_for(provider), endpoint(simulated_provider, provider)
    request = chat("filter-this prompt")
    if provider == "cohere":
        assert await failed(spoken, request) == (400, "invalid_request_error", "content_filter")
        return
    answer = await spoken[0].complete(spoken[1], request)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert (await chunks(spoken, request))[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_the_other_routes_are_refused_before_any_call(spoken: Spoken, simulated_provider: Simulator) -> None:
    provider, at = spoken
    with pytest.raises(InvalidRequest) as caught:
        await provider.complete(at, ProviderRequest("/embeddings", {"input": "hello"}, 5.0))
    assert caught.value.param == "model"
    assert simulated_provider.log() == []


async def test_a_prompt_that_is_too_long(spoken: Spoken) -> None:
    told = await failed(spoken, chat("word " * 9_000))
    assert told == (400, "invalid_request_error", "context_length_exceeded")


@pytest.mark.parametrize(("kind", "code"), [("too_long", "context_length_exceeded"), ("forbidden", "content_filter")])
async def test_a_prompt_that_is_refused_in_the_provider_s_own_words(
    spoken: Spoken, simulated_provider: Simulator, kind: Any, code: str
) -> None:
    simulated_provider.fail(Fault(kind=kind))
    assert await failed(spoken, chat()) == (400, "invalid_request_error", code)

    simulated_provider.fail(Fault(kind=kind, when="within", chunks=1))
    with pytest.raises(ProviderRefused) as caught:
        await chunks(spoken, chat())
    assert caught.value.answer().code == code


async def test_our_own_key_is_not_the_callers_fault(spoken: Spoken) -> None:
    provider, at = spoken
    assert await failed((provider, replace(at, api_key="wrong-secret-key")), chat()) == ACCOUNT


PERMANENT = Signature(BEDROCK_REGION, "AKIASIMULATED", "simulated-secret-access-key")
TEMPORARY = Signature(BEDROCK_REGION, "ASIASIMULATED", "simulated-temporary-secret", "simulated-session-token")
ROLE = Signature(BEDROCK_REGION)


@pytest.fixture
def bedrock(simulated_provider: Simulator) -> Spoken:
    """Without an API key."""
    at = endpoint(simulated_provider, "bedrock")
    return chat_provider_for("bedrock"), replace(at, api_key="", signature=PERMANENT)


@pytest.mark.parametrize("signed", [PERMANENT, TEMPORARY])
@pytest.mark.parametrize("model", [BEDROCK_MODEL, BEDROCK_PROFILE])
async def test_bedrock_takes_what_is_signed(bedrock: Spoken, signed: Signature, model: str) -> None:
    provider, at = bedrock
    spoken = provider, replace(at, signature=signed, model=model)
    answer = await provider.complete(spoken[1], chat("grüß dich"))
    assert answer["choices"][0]["message"]["content"] == "echo: grüß dich"
    assert (await chunks(spoken, chat("hello")))[-1]["choices"][0]["finish_reason"] == "stop"


async def test_bedrock_takes_the_name_of_the_functions_own_role(
    bedrock: Spoken, own_role: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, at = bedrock
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(TEMPORARY.access_key_id))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", TEMPORARY.secret_access_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(TEMPORARY.session_token))
    answer = await provider.complete(replace(at, signature=ROLE), chat("hello"))
    assert answer["choices"][0]["message"]["content"] == "echo: hello"


async def test_nobody_to_sign_is_our_own_fault(
    bedrock: Spoken, own_role: None, monkeypatch: pytest.MonkeyPatch, simulated_provider: Simulator
) -> None:
    provider, at = bedrock
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    error = await error_of((provider, replace(at, signature=ROLE)), chat())
    assert "no AWS credentials" in error.message
    assert simulated_provider.log() == []


@pytest.mark.parametrize(
    "signed",
    [
        replace(PERMANENT, secret_access_key="another-secret-access-key"),
        replace(PERMANENT, access_key_id="AKIAUNKNOWN"),
        replace(TEMPORARY, session_token=None),
        replace(TEMPORARY, session_token="expired-session-token"),
        replace(PERMANENT, region="us-east-1"),
    ],
)
async def test_a_signature_that_does_not_do_has_the_keys_fetched_again(bedrock: Spoken, signed: Signature) -> None:
    provider, at = bedrock
    error = await error_of((provider, replace(at, signature=signed)), chat())
    assert error.status == 401
    assert shape(error.answer()) == ACCOUNT


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ("", {"AWS_BEARER_TOKEN_BEDROCK": "bedrock-api-key-simulated"}),
        (
            "aws_region_name: os.environ/REGION, aws_access_key_id: os.environ/ID, "
            "aws_secret_access_key: os.environ/KEY",
            {
                "AWS_BEARER_TOKEN_BEDROCK": "of-another-deployment",
                "REGION": BEDROCK_REGION,
                "ID": str(PERMANENT.access_key_id),
                "KEY": PERMANENT.secret_access_key,
            },
        ),
    ],
)
async def test_bedrock_as_it_is_configured(
    simulated_provider: Simulator, tmp_path: Path, params: str, values: dict[str, str]
) -> None:
    base = f"api_base: '{simulated_provider.base('bedrock')}'"
    model = f"{{model: 'bedrock/{BEDROCK_MODEL}', {base}, {params}}}"
    (tmp_path / "config.yaml").write_text(f"model_list: [{{model_name: claude, litellm_params: {model}}}]")
    loaded = config.load(tmp_path / "config.yaml", values.get)
    deployments = Deployments(loaded, Secrets(None, values), provider_for, chat_provider_for)
    answer = await deployments.complete(loaded.deployments[0], chat("hello"))
    assert answer["choices"][0]["message"]["content"] == "echo: hello"


def test_who_does_not_sign_does_not_load_botocore() -> None:
    code = "import sys, manifold.providers.bedrock; assert 'botocore' not in sys.modules"
    layer = Path(__file__).parents[2] / "layers" / "common"
    subprocess.run([sys.executable, "-c", code], cwd=layer, check=True, timeout=60)


async def test_the_signature_is_of_the_region_that_the_address_names() -> None:
    at = Endpoint("model", "https://bedrock-runtime.us-west-2.amazonaws.com", "", signature=PERMANENT)
    assert signature.region_of(at) == "us-west-2"
    assert signature.region_of(replace(at, base_url="")) == BEDROCK_REGION
    with pytest.raises(ProviderRefused, match="aws_region_name"):
        signature.region_of(replace(at, base_url="", signature=Signature(None)))


async def test_a_model_that_is_not_there_is_not_the_callers_fault(spoken: Spoken) -> None:
    provider, at = spoken
    assert await failed((provider, replace(at, model="gone")), chat()) == ACCOUNT


async def test_what_the_provider_takes_for_wrong_is_the_callers_fault(spoken: Spoken) -> None:
    told = (await error_of(spoken, chat(max_tokens=0))).answer()
    assert (told.status, told.type) == (400, "invalid_request_error")
    assert "127.0.0.1" not in told.message


@pytest.mark.parametrize(
    ("how", "told"),
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
async def test_trouble(
    spoken: Spoken, simulated_provider: Simulator, how: dict[str, Any], told: tuple[int, str, str]
) -> None:
    simulated_provider.fail(Fault.model_validate({"route": "chat.create", **how}))
    # On a busy machine even a connection takes a while, and a short timeout would be the trouble.
    error = await error_of(spoken, chat(timeout=1.0 if how["kind"] == "delay" else 10.0))
    assert shape(error.answer()) == told
    assert error.retry_after == (7 if "retry_after" in how else None)


@pytest.mark.parametrize("kind", ["cut", "truncate", "garbage", "error"])
async def test_trouble_within_a_stream(spoken: Spoken, simulated_provider: Simulator, kind: str) -> None:
    simulated_provider.fail(Fault.model_validate({"route": "chat.create", "kind": kind, "when": "within", "chunks": 3}))
    provider, at = spoken
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
    spoken = chat_provider_for(provider), endpoint(simulated_provider, provider)
    with pytest.raises(ProviderError) as caught:
        await chunks(spoken, chat("one two three four"))
    assert shape(caught.value.answer()) == (429, "rate_limit_error", "rate_limit_exceeded")


KEEPALIVES = ("data:\n\n", ":\n\n", ": ping\n\n", "event: ping\n\n", "data: \r\n\r\n", "id: 7\n\n")


@pytest.mark.parametrize("provider", ["anthropic", "cohere", "gemini"])
@pytest.mark.parametrize("text", KEEPALIVES)
async def test_an_event_that_says_nothing_ends_no_stream(
    simulated_provider: Simulator, provider: str, text: str
) -> None:
    simulated_provider.fail(Fault(kind="inject", route="chat.create", when="within", chunks=3, text=text))
    spoken = chat_provider_for(provider), endpoint(simulated_provider, provider)
    told = await chunks(spoken, chat("one two three four"))
    said = "".join(choice["delta"].get("content") or "" for chunk in told for choice in chunk["choices"])
    assert said == "echo: one two three four"


HALF: dict[str, dict[str, Any]] = {
    "anthropic": {"content": [{"type": "text", "text": "cut \ud83d"}], "stop_reason": "end_turn"},
    "bedrock": {"output": {"message": {"content": [{"text": "cut \ud83d"}]}}, "stopReason": "end_turn"},
    "cohere": {"message": {"content": [{"type": "text", "text": "cut \ud83d"}]}, "finish_reason": "COMPLETE"},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "cut \ud83d"}]}, "finishReason": "STOP"}]},
}


@pytest.mark.parametrize("provider", HALF)
async def test_half_an_emoji_in_an_answer(simulated_provider: Simulator, provider: str) -> None:
    simulated_provider.fail(Fault(kind="inject", route="chat.create", text=json.dumps(HALF[provider])))
    answer = await chat_provider_for(provider).complete(endpoint(simulated_provider, provider), chat())
    assert answer["choices"][0]["message"]["content"] == "cut \ufffd"


async def test_counts_that_are_no_numbers(simulated_provider: Simulator) -> None:
    usage = {"tokens": {"input_tokens": "many", "output_tokens": 1}}
    simulated_provider.fail(
        Fault(kind="inject", route="chat.create", text=json.dumps(HALF["cohere"] | {"usage": usage}))
    )
    error = await error_of((chat_provider_for("cohere"), endpoint(simulated_provider, "cohere")), chat())
    assert shape(error.answer()) == (502, "server_error", "provider_error")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("error", [{"code": 429, "message": "slow down"}, "the model is gone"])
async def test_an_error_within_a_success(simulated_provider: Simulator, provider: str, error: object) -> None:
    simulated_provider.fail(Fault(kind="inject", route="chat.create", text=json.dumps({"error": error})))
    await failed((chat_provider_for(provider), endpoint(simulated_provider, provider)), chat())
