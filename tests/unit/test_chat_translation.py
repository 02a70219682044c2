"""What cannot be said in a provider's dialect, and what is wrong whoever is asked."""

from collections.abc import Mapping
from typing import Any

import pytest

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers.answers import Chunks
from manifold.providers.anthropic import Anthropic
from manifold.providers.anthropic.thinking import is_adaptive
from manifold.providers.asked import merged
from manifold.providers.bedrock import Bedrock
from manifold.providers.chat import Ask
from manifold.providers.cohere import Cohere
from manifold.providers.gemini import Gemini
from manifold.providers.translated import Dialect

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
every_dialect = pytest.mark.parametrize("provider", DIALECTS)


def request(provider: str, *, drop: bool = False, **body: Any) -> dict[str, Any]:
    ask = Ask("/chat/completions", {"messages": HELLO, **body}, 5.0, drop_params=drop)
    return DIALECTS[provider].request(MODELS[provider], ask, stream=False)


def refused(provider: str, **body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request(provider, **body)
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
        ("bedrock", "parallel_tool_calls", False),
        ("bedrock", "user", "u-1"),
        ("cohere", "n", 2),
        ("cohere", "top_logprobs", 2),
        ("cohere", "frequency_penalty", -1),
        ("cohere", "reasoning_effort", "extreme"),
        ("cohere", "parallel_tool_calls", False),
        ("gemini", "logit_bias", {"1": 2}),
        ("gemini", "reasoning_effort", "xhigh"),
        ("gemini", "parallel_tool_calls", False),
        ("gemini", "response_format", {"type": "grammar"}),
        *((provider, "audio", {"voice": "alloy"}) for provider in DIALECTS),
        *((provider, "functions", [{"name": "weather"}]) for provider in DIALECTS),
        *((provider, "verbosity", "low") for provider in DIALECTS),
    ],
)
def test_what_cannot_be_said_is_refused_or_dropped(provider: str, param: str, value: object) -> None:
    error = refused(provider, **{param: value})
    assert (error.status, error.param, error.code) == (400, param, "unsupported_parameter")
    assert request(provider, drop=True, **{param: value}) == request(provider)


@every_dialect
def test_a_default_says_nothing(provider: str) -> None:
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


def test_bedrock_cannot_forbid_tools_that_were_called_already() -> None:
    messages = [*HELLO, CALLING, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    assert refused("bedrock", messages=messages, tools=[TOOL], tool_choice="none").param == "tool_choice"
    assert "toolConfig" in request("bedrock", drop=True, messages=messages, tools=[TOOL], tool_choice="none")


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
    """What another provider added to a tool call goes no further."""
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
    answer = Gemini().answer({"candidates": [{"finishReason": reason}]}, "gemini-3-pro", 1)
    assert answer["choices"][0]["finish_reason"] == "content_filter"


def test_the_most_effort() -> None:
    ask = Ask("/chat/completions", {"messages": HELLO, "reasoning_effort": "max"}, 5.0)
    adaptive = Anthropic().request("claude-opus-4-6", ask, stream=False)
    assert adaptive["output_config"] == {"effort": "max"}
    budgeted = [request(provider, reasoning_effort="max")["thinking"] for provider in ("anthropic", "cohere")]
    assert budgeted == [request(provider, reasoning_effort="xhigh")["thinking"] for provider in ("anthropic", "cohere")]


def test_no_effort_at_all() -> None:
    assert request("anthropic", reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert request("gemini", reasoning_effort="none")["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}


def test_the_callers_words_win() -> None:
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
        DIALECTS[provider].answer(answer, "model", 0)


@pytest.mark.parametrize(
    ("provider", "event"),
    [
        ("bedrock", ("messageStop", {"stopReason": "malformed_model_output"})),
        ("cohere", ("message-end", {"type": "message-end", "delta": {"finish_reason": "ERROR"}})),
        ("gemini", ("message", {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]})),
    ],
)
def test_a_stream_that_ends_in_no_answer(provider: str, event: tuple[str, dict[str, Any]]) -> None:
    reader = DIALECTS[provider].reader(Chunks("model", 0, with_usage=True))
    with pytest.raises(ProviderUnclear):
        reader.read(*event)
    assert not reader.ended


def test_a_stream_of_several_candidates_ends_with_the_last_of_them() -> None:
    reader = Gemini().reader(Chunks("model", 0, with_usage=False))
    told = [
        *reader.read("message", {"candidates": [{"index": 0, "content": {"parts": [{"text": "one"}]}}]}),
        *reader.read("message", {"candidates": [{"index": 1, "finishReason": "STOP"}]}),
    ]
    assert [chunk["choices"][0]["index"] for chunk in told] == [0, 0, 1, 1]
    assert (reader.close(), reader.ended) == ([], False)
    reader.read("message", {"candidates": [{"index": 0, "finishReason": "STOP"}]})
    reader.close()
    assert reader.ended
