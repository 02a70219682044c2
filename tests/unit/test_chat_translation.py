"""Parameters that a provider's dialect does not have, and requests that are wrong for every provider."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers.anthropic import Anthropic
from manifold.providers.anthropic.models import is_adaptive
from manifold.providers.bedrock import Bedrock
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.cohere import Cohere
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.dialect import Dialect
from manifold.providers.gemini import Gemini
from manifold.providers.parameters import merged

DIALECTS: Mapping[str, Dialect] = {
    "anthropic": Anthropic(),
    "bedrock": Bedrock(),
    "cohere": Cohere(),
    "gemini": Gemini(),
}
MODELS = {"anthropic": "claude-haiku-4-5", "bedrock": "meta.llama", "cohere": "command-a", "gemini": "gemini-2.5-flash"}
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather"}}
MARKED = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}
CALLING: dict[str, Any] = {
    "role": "assistant",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}
CALLED = [*HELLO, CALLING, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
CLAUDE = "eu.anthropic.claude-haiku-4-5-v1:0"
every_dialect = pytest.mark.parametrize("provider", DIALECTS)


NO_TEXTS: Sequence[Any] = ({}, [], ["low"], {"a": {"b": 1}}, 5, True)
NO_WHOLE_NUMBERS: Sequence[Any] = ("2000", 2.5, [], True)


def request(provider: str, model: str | None = None, *, drop: bool = False, **body: Any) -> dict[str, Any]:
    request = ProviderRequest("/chat/completions", {"messages": HELLO, **body}, 5.0, drop_params=drop)
    return DIALECTS[provider].translate_request(model or MODELS[provider], request, stream=False)


def refused(provider: str, model: str | None = None, **body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request(provider, model, **body)
    return caught.value


@pytest.mark.parametrize(
    ("provider", "param", "value"),
    [
        ("anthropic", "n", 2),
        ("anthropic", "seed", 1),
        ("anthropic", "logprobs", True),
        ("anthropic", "logit_bias", {"1": 2}),
        ("anthropic", "presence_penalty", 0.5),
        ("anthropic", "temperature", 1.5),
        ("anthropic", "response_format", {"type": "json_object"}),
        ("anthropic", "service_tier", "flex"),
        ("anthropic", "reasoning_effort", "extreme"),
        ("bedrock", "n", 2),
        ("bedrock", "seed", 1),
        ("bedrock", "temperature", 1.5),
        ("bedrock", "response_format", {"type": "json_object"}),
        ("bedrock", "reasoning_effort", "high"),
        ("bedrock", "user", "u-1"),
        ("cohere", "n", 2),
        ("cohere", "top_logprobs", 2),
        ("cohere", "frequency_penalty", -1),
        ("cohere", "reasoning_effort", "extreme"),
        ("gemini", "logit_bias", {"1": 2}),
        ("gemini", "reasoning_effort", "xhigh"),
        ("gemini", "response_format", {"type": "grammar"}),
        *((provider, "audio", {"voice": "alloy"}) for provider in DIALECTS),
        *((provider, "functions", [{"name": "weather"}]) for provider in DIALECTS),
        *((provider, "verbosity", "low") for provider in DIALECTS),
    ],
)
def test_unsupported_parameters_are_refused_or_dropped(provider: str, param: str, value: Any) -> None:
    error = refused(provider, **{param: value})
    assert (error.status, error.param, error.code) == (400, param, "unsupported_parameter")
    assert request(provider, drop=True, **{param: value}) == request(provider)


@every_dialect
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(
    ("param", "value"),
    [
        *(("reasoning_effort", wrong) for wrong in NO_TEXTS),
        *((name, wrong) for name in ("max_tokens", "max_completion_tokens") for wrong in NO_WHOLE_NUMBERS),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(provider: str, drop: bool, param: str, value: Any) -> None:
    for more in ({}, {"reasoning_effort": "low"}):
        with pytest.raises(InvalidRequest) as caught:
            request(provider, drop=drop, **{**more, param: value})
        assert (caught.value.param, caught.value.code) == (param, "invalid_value")


@every_dialect
def test_a_default_value_is_left_out(provider: str) -> None:
    defaults: dict[str, Any] = {
        "n": 1, "logprobs": False, "logit_bias": {}, "frequency_penalty": 0, "presence_penalty": 0, "store": False,
        "response_format": {"type": "text"}, "parallel_tool_calls": True, "tools": [], "tool_choice": "auto",
        "service_tier": "auto", "modalities": ["text"], "temperature": None, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert request(provider, **defaults) == request(provider)


@pytest.mark.parametrize("provider", ["cohere", "gemini"])
def test_another_providers_marks_are_refused_or_dropped(provider: str) -> None:
    messages = [{"role": "user", "content": [MARKED]}]
    assert refused(provider, messages=messages).param == "messages[0].content[0].cache_control"
    assert request(provider, drop=True, messages=messages) is not None

    tools = [TOOL | {"cache_control": {"type": "ephemeral"}}]
    assert refused(provider, tools=tools).param == "tools[0].cache_control"
    assert request(provider, drop=True, tools=tools) == request(provider, tools=[TOOL])


@every_dialect
@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hello", "messages"),
        (["hello"], "messages[0]"),
        ([{"role": "robot", "content": "hello"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": ["hello"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url.url"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}],
            "messages[0].content[0].image_url.url",
        ),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}],
            "messages[0].content[0].image_url",
        ),
        ([{"role": "tool", "tool_call_id": "call_1"}], "messages[0].content"),
        ([{"role": "assistant", "tool_calls": "one"}, *HELLO], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": {}}, *HELLO], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [{"id": "call_1"}]}, *HELLO], "messages[0].tool_calls[0]"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "messages[0].content[0].file.file_data"),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}],
            "messages[0].content[0].file.file_id",
        ),
        ([{"role": "tool", "content": "sunny"}], "messages[0].tool_call_id"),
    ],
)
def test_a_message_of_another_shape(provider: str, messages: object, param: str) -> None:
    error = refused(provider, messages=messages, drop=True)
    assert (error.status, error.code, error.param) == (400, "invalid_value", param)


@every_dialect
@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ("weather", None, "tools"),
        (["weather"], None, "tools[0]"),
        ([{"type": "function"}], None, "tools[0].function"),
        ([{"type": "custom", "custom": {"name": "weather"}}], None, "tools[0].type"),
        ([TOOL], "always", "tool_choice"),
        ([TOOL], {"type": "function"}, "tool_choice"),
        ([TOOL], {"type": "function", "function": {"name": "another"}}, "tool_choice"),
        (
            [TOOL],
            {"type": "allowed_tools", "allowed_tools": {"tools": [{"type": "function"}]}},
            "tool_choice.allowed_tools.tools",
        ),
    ],
)
def test_tools_of_another_shape(provider: str, tools: object, choice: object, param: str) -> None:
    assert refused(provider, tools=tools, tool_choice=choice).param == param


@every_dialect
def test_allowed_tools_are_the_only_ones_given(provider: str) -> None:
    other = {"type": "function", "function": {"name": "time"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    narrowed = request(provider, tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert narrowed == request(provider, tools=[other], tool_choice="required")


def test_bedrock_is_given_no_tools_where_none_may_be_called() -> None:
    assert request("bedrock", tools=[TOOL], tool_choice="none") == request("bedrock")


@pytest.mark.parametrize("given", [{}, {"tools": []}, {"tools": [TOOL], "tool_choice": "none"}])
def test_bedrock_is_told_of_tools_that_were_called_already(given: dict[str, Any]) -> None:
    """Converse wants each declared, though none may be called."""
    [spec] = [tool["toolSpec"] for tool in request("bedrock", messages=CALLED, **given)["toolConfig"]["tools"]]
    assert (spec["name"], spec["inputSchema"]) == ("weather", {"json": {"type": "object"}})
    assert "do not call" in spec["description"]


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
@pytest.mark.parametrize("model", ["anthropic.claude-haiku-4-5", "anthropic.claude-opus-4-6"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_claude_does_not_think_before_a_call_that_it_must_make(provider: str, model: str, choice: object) -> None:
    parameters: dict[str, Any] = {"tools": [TOOL], "tool_choice": choice}
    assert refused(provider, model, reasoning_effort="low", **parameters).param == "reasoning_effort"
    assert request(provider, model, drop=True, reasoning_effort="low", **parameters) == request(
        provider, model, **parameters
    )
    assert request(provider, model, reasoning_effort="none", **parameters)


@every_dialect
@pytest.mark.parametrize("given", [{}, {"tools": []}, {"tools": [TOOL], "tool_choice": "none"}])
def test_one_call_at_a_time_says_nothing_where_none_may_be_made(provider: str, given: dict[str, Any]) -> None:
    assert request(provider, parallel_tool_calls=False, **given) == request(provider, **given)


@pytest.mark.parametrize("provider", ["bedrock", "cohere", "gemini"])
def test_one_call_at_a_time_where_there_is_no_such_switch(provider: str) -> None:
    assert refused(provider, tools=[TOOL], parallel_tool_calls=False).param == "parallel_tool_calls"
    dropped = request(provider, drop=True, tools=[TOOL], parallel_tool_calls=False)
    assert dropped == request(provider, tools=[TOOL])


@pytest.mark.parametrize(
    ("choice", "own", "converse"),
    [
        (None, {"type": "auto", "disable_parallel_tool_use": True}, None),
        ("auto", {"type": "auto", "disable_parallel_tool_use": True}, None),
        ("required", {"disable_parallel_tool_use": True}, {"any": {}}),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"disable_parallel_tool_use": True},
            {"tool": {"name": "weather"}},
        ),
    ],
)
def test_one_call_at_a_time_of_claude_at_bedrock(choice: object, own: object, converse: object) -> None:
    body = request("bedrock", CLAUDE, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
    assert body["additionalModelRequestFields"] == {"tool_choice": own}
    assert body["toolConfig"].get("toolChoice") == converse


@pytest.mark.parametrize("ttl", [None, "1h"])
def test_a_mark_on_a_tools_result_follows_it_at_bedrock(ttl: str | None) -> None:
    mark = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
    parts = [{"type": "text", "text": "sunny", "cache_control": mark}, {"type": "text", "text": "and warm"}]
    result = {"role": "tool", "tool_call_id": "call_1", "content": parts}
    body = request("bedrock", CLAUDE, messages=[*HELLO, CALLING, result, *HELLO], tools=[TOOL])
    received, point, _ = body["messages"][-1]["content"]
    assert received["toolResult"]["content"] == [{"text": "sunny"}, {"text": "and warm"}]
    assert point == {"cachePoint": {"type": "default"} | ({"ttl": ttl} if ttl else {})}


PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc"


@pytest.mark.parametrize("base_model", ["anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/us.anthropic.claude-x"])
def test_the_base_model_names_the_model_of_an_arn(base_model: str) -> None:
    parameters: dict[str, Any] = {"reasoning_effort": "low", "tools": [TOOL], "parallel_tool_calls": False}
    request = ProviderRequest("/chat/completions", {"messages": HELLO, **parameters}, 5.0)
    known = Bedrock().translate_request(PROFILE, request, stream=False, base_model=base_model)
    assert known["additionalModelRequestFields"].keys() >= {"thinking", "tool_choice"}
    with pytest.raises(InvalidRequest) as caught:
        Bedrock().translate_request(PROFILE, request, stream=False)
    assert caught.value.param == "reasoning_effort"


@every_dialect
@pytest.mark.parametrize(("stop", "sent"), [("", None), (["", "END"], ["END"]), ([], None)])
def test_a_stop_that_is_empty_says_nothing(provider: str, stop: object, sent: object) -> None:
    assert request(provider, stop=stop) == request(provider, stop=sent)


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
@pytest.mark.parametrize(("stop", "sent"), [("\n", None), (["\n\n", "END"], ["END"]), ([" ", "\t"], None)])
def test_a_stop_of_white_space_is_not_claudes(provider: str, stop: object, sent: object) -> None:
    model = CLAUDE if provider == "bedrock" else None
    assert refused(provider, model, stop=stop).param == "stop"
    assert request(provider, model, drop=True, stop=stop) == request(provider, model, stop=sent)


@pytest.mark.parametrize("provider", ["bedrock", "cohere", "gemini"])
def test_a_stop_of_white_space_is_others(provider: str) -> None:
    assert "\\n" in json.dumps(request(provider, stop="\n"))


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
@pytest.mark.parametrize("who", ["ann@example.com", "Ann <ann@example.co.uk>", "+49 (30) 123-456", "+493012345678"])
def test_a_person_is_not_named_to_anthropic(name: str, who: str) -> None:
    assert refused("anthropic", **{name: who}).param == name
    assert request("anthropic", drop=True, **{name: who}) == request("anthropic")


@pytest.mark.parametrize("who", ["u-1", "12345678", "a@b", "2f1c7bd0-0c7e-4b51-9a3a-4f0c6f6d5a11"])
def test_an_id_is_told_to_anthropic(who: str) -> None:
    assert request("anthropic", user=who)["metadata"] == {"user_id": who}


@pytest.mark.parametrize(
    ("model", "thinking", "limit"),
    [
        ("claude-haiku-4-5", {"type": "enabled", "budget_tokens": 16_000}, 24_192),
        ("claude-haiku-4-5", {"type": "enabled", "budget_tokens": 60_000}, 64_000),
        ("claude-opus-4-1", {"type": "enabled", "budget_tokens": 30_000}, 32_000),
        ("claude-haiku-4-5", {"type": "disabled"}, 8_192),
        ("claude-opus-4-6", {"type": "adaptive"}, 8_192),
        ("claude-3-haiku-20240307", None, 4_096),
        ("claude-3-5-haiku-20241022", None, 8_192),
        ("claude-instant-v1", None, 4_096),
        ("a-name-that-tells-nothing", None, 8_192),
    ],
)
def test_room_for_an_answer_after_the_thoughts(model: str, thinking: object, limit: int) -> None:
    body = request("anthropic", model, thinking=thinking)
    assert (body["max_tokens"], body.get("thinking")) == (limit, thinking)
    assert request("anthropic", model, thinking=thinking, max_tokens=2_000)["max_tokens"] == 2_000


def test_room_at_bedrock_is_the_models_own_but_for_a_budget() -> None:
    assert "maxTokens" not in request("bedrock", CLAUDE)["inferenceConfig"]
    body = request("bedrock", CLAUDE, thinking={"type": "enabled", "budget_tokens": 16_000})
    assert body["inferenceConfig"]["maxTokens"] == 24_192


def test_the_most_effort_leaves_room_within_what_the_model_gives() -> None:
    body = request("anthropic", "claude-opus-4-1", reasoning_effort="max")
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (32_000, 32_000 - 8_192)


def test_bedrock_fetches_no_images() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    error = refused("bedrock", messages=[{"role": "user", "content": [picture]}])
    assert error.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_an_image_of_a_type_that_is_not_taken(provider: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}}
    assert "image/png" in refused(provider, messages=[{"role": "user", "content": [picture]}]).message


def test_gemini_needs_the_call_that_a_result_is_of() -> None:
    messages = [{"role": "tool", "tool_call_id": "call_9", "content": "sunny"}]
    assert refused("gemini", messages=messages).param == "messages[0].tool_call_id"


@every_dialect
def test_a_message_that_our_own_answer_was(provider: str) -> None:
    """Fields that another provider added to a tool call are removed."""
    call = CALLING["tool_calls"][0] | {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    messages = [*HELLO, CALLING | {"tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "ok"}]
    assert ("c2ln" in str(request(provider, messages=messages))) == (provider == "gemini")


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-opus-4-1", False),
        ("claude-haiku-4-5-20251001", False),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", False),
        ("anthropic.claude-opus-4-6-v1", True),
        ("claude-sonnet-5", True),
        ("claude-opus-5-5", True),
        ("claude-mythos-preview", True),
    ],
)
def test_which_models_of_claude_take_an_effort(model: str, adaptive: bool) -> None:
    assert is_adaptive(model) is adaptive


def test_no_effort_fits_into_few_tokens() -> None:
    assert refused("anthropic", reasoning_effort="low", max_completion_tokens=1_000).param == "reasoning_effort"


@pytest.mark.parametrize("reason", ["SAFETY", "SPII", "ESCALATION"])
def test_what_gemini_withholds_is_filtered(reason: str) -> None:
    answer = Gemini().translate_response({"candidates": [{"finishReason": reason}]}, "gemini-3-pro", 1)
    assert answer["choices"][0]["finish_reason"] == "content_filter"


def test_the_most_effort() -> None:
    most = ProviderRequest("/chat/completions", {"messages": HELLO, "reasoning_effort": "max"}, 5.0)
    adaptive = Anthropic().translate_request("claude-opus-4-6", most, stream=False)
    assert adaptive["output_config"] == {"effort": "max"}
    budgeted = [request(provider, reasoning_effort="max")["thinking"] for provider in ("anthropic", "cohere")]
    assert budgeted == [request(provider, reasoning_effort="xhigh")["thinking"] for provider in ("anthropic", "cohere")]


def test_no_effort_at_all() -> None:
    assert request("anthropic", reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert request("gemini", reasoning_effort="none")["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}


def test_the_callers_own_fields_win() -> None:
    ours = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merged(ours, {"a": {"b": 9}, "e": 4}) == {"a": {"b": 9, "c": 2}, "d": 3, "e": 4}


@pytest.mark.parametrize(
    ("provider", "answer"),
    [
        ("anthropic", {"id": "msg_1"}),
        ("bedrock", {"output": {"message": {"content": []}}, "stopReason": "malformed_tool_use"}),
        ("cohere", {"message": {"role": "assistant"}, "finish_reason": "TIMEOUT"}),
        ("gemini", {}),
        ("gemini", {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}),
        ("gemini", {"candidates": [{"finishReason": "MALFORMED_RESPONSE"}]}),
        ("gemini", {"candidates": [{"finishReason": "MISSING_THOUGHT_SIGNATURE"}]}),
    ],
)
def test_an_answer_that_is_none(provider: str, answer: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnclear):
        DIALECTS[provider].translate_response(answer, "model", 0)


@pytest.mark.parametrize(
    ("provider", "event"),
    [
        ("bedrock", ("messageStop", {"stopReason": "malformed_model_output"})),
        ("cohere", ("message-end", {"type": "message-end", "delta": {"finish_reason": "ERROR"}})),
        ("gemini", ("message", {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]})),
    ],
)
def test_a_stream_that_ends_in_no_answer(provider: str, event: tuple[str, dict[str, Any]]) -> None:
    reader = DIALECTS[provider].reader(ChunkBuilder("model", 0, with_usage=True))
    with pytest.raises(ProviderUnclear):
        reader.read(*event)
    assert not reader.ended


def test_a_stream_of_several_candidates_ends_with_the_last_of_them() -> None:
    reader = Gemini().reader(ChunkBuilder("model", 0, with_usage=False))
    received = [
        *reader.read("message", {"candidates": [{"index": 0, "content": {"parts": [{"text": "one"}]}}]}),
        *reader.read("message", {"candidates": [{"index": 1, "finishReason": "STOP"}]}),
    ]
    assert [chunk["choices"][0]["index"] for chunk in received] == [0, 0, 1, 1]
    assert (reader.close(), reader.ended) == ([], False)
    reader.read("message", {"candidates": [{"index": 0, "finishReason": "STOP"}]})
    reader.close()
    assert reader.ended
