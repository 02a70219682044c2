"""Which models take `temperature`, `top_p` and the like, and what happens with values that they do not take."""

from typing import Any

import pytest

from manifold.errors import InvalidRequest
from manifold.providers.anthropic import Anthropic
from manifold.providers.bedrock import Bedrock
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.openai.reasoning import without_sampling

OLD, BOTH_REFUSED, NONE_TAKEN = "claude-sonnet-4-20250514", "claude-haiku-4-5", "claude-opus-4-8"
NAMES = ("temperature", "top_p", "top_k")


def anthropic(model: str, *, drop: bool = False, **body: Any) -> dict[str, Any]:
    request = ProviderRequest(
        "/chat/completions", {"messages": [{"role": "user", "content": "hello"}], **body}, 5.0, drop_params=drop
    )
    sent = Anthropic().translate_request(model, request, stream=False)
    return {name: sent[name] for name in NAMES if name in sent}


def bedrock(model: str, *, drop: bool = False, **body: Any) -> dict[str, Any]:
    """The same, in Anthropic's names."""
    request = ProviderRequest(
        "/chat/completions", {"messages": [{"role": "user", "content": "hello"}], **body}, 5.0, drop_params=drop
    )
    sent = Bedrock().translate_request(f"eu.anthropic.{model}-v1:0", request, stream=False)
    config, own = sent["inferenceConfig"], sent.get("additionalModelRequestFields", {})
    named = {"temperature": config.get("temperature"), "top_p": config.get("topP"), "top_k": own.get("top_k")}
    return {name: value for name, value in named.items() if value is not None}


def refused(model: str, **body: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        anthropic(model, **body)
    with pytest.raises(InvalidRequest) as other:
        bedrock(model, **body)
    assert (caught.value.status, caught.value.code) == (400, "unsupported_parameter")
    assert other.value.param == caught.value.param
    return caught.value.param


@pytest.mark.parametrize("sent", [anthropic, bedrock])
@pytest.mark.parametrize(
    ("model", "parameters", "left"),
    [
        (OLD, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        (OLD, {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}),
        (BOTH_REFUSED, {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}),
        (BOTH_REFUSED, {"temperature": 0.0, "top_p": 1.0}, {"temperature": 0.0}),
        (BOTH_REFUSED, {"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}),
        (BOTH_REFUSED, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}),
        (BOTH_REFUSED, {"temperature": None, "top_p": 0.9}, {"top_p": 0.9}),
        (BOTH_REFUSED, {"temperature": 1, "top_p": 1}, {}),
        (BOTH_REFUSED, {"top_p": 0.0, "top_k": 5}, {"top_p": 0.0, "top_k": 5}),
        ("claude-opus-4-1", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}),
        ("claude-3-7-sonnet-20250219", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ("claude-v2:1", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ("claude-mythos-preview", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}),
        (NONE_TAKEN, {"temperature": 1, "top_p": 1.0}, {}),
    ],
)
def test_what_claude_is_sent(sent: Any, model: str, parameters: dict[str, Any], left: dict[str, Any]) -> None:
    assert sent(model, **parameters) == left
    assert sent(model, drop=True, **parameters) == left


@pytest.mark.parametrize(
    "model", [NONE_TAKEN, "claude-opus-4-7", "claude-sonnet-5", "claude-fable-5-2", "claude-haiku-5-5"]
)
@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("temperature", 0.7), ("top_p", 0.9), ("top_k", 5)])
def test_models_that_take_no_sampling(model: str, name: str, value: float) -> None:
    assert refused(model, **{name: value}) == name
    assert anthropic(model, drop=True, **{name: value}) == {}
    assert bedrock(model, drop=True, **{name: value}) == {}


@pytest.mark.parametrize(
    "thinking", [{"reasoning_effort": "low"}, {"thinking": {"type": "enabled", "budget_tokens": 2_000}}]
)
@pytest.mark.parametrize(("name", "value"), [("temperature", 0.5), ("top_p", 0.5)])
def test_a_model_that_thinks_samples_by_itself(thinking: dict[str, Any], name: str, value: float) -> None:
    for model in (OLD, BOTH_REFUSED, "claude-opus-4-6"):
        assert refused(model, **thinking, **{name: value}) == name
        assert anthropic(model, drop=True, **thinking, **{name: value}) == {}
        assert bedrock(model, drop=True, **thinking, **{name: value}) == {}


def test_what_a_model_that_thinks_takes() -> None:
    assert anthropic(BOTH_REFUSED, reasoning_effort="low", temperature=1, top_p=0.95) == {"top_p": 0.95}
    assert anthropic(BOTH_REFUSED, reasoning_effort="none", temperature=0.5, top_k=5) == {
        "temperature": 0.5,
        "top_k": 5,
    }
    assert anthropic(BOTH_REFUSED, thinking={"type": "disabled"}, temperature=0.5) == {"temperature": 0.5}
    assert anthropic(BOTH_REFUSED, drop=True, reasoning_effort="low", top_k=5) == {}
    assert anthropic(BOTH_REFUSED, reasoning_effort="low", top_k=5) == {"top_k": 5}, "Anthropic's own word"


@pytest.mark.parametrize("value", [1.5, -0.1, 2])
def test_a_temperature_above_claudes_maximum(value: float) -> None:
    assert refused(BOTH_REFUSED, temperature=value) == "temperature"
    assert anthropic(BOTH_REFUSED, drop=True, temperature=value, top_p=0.5) == {"top_p": 0.5}


def test_the_base_model_names_the_model_of_an_unclear_name() -> None:
    request = ProviderRequest(
        "/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}, 5.0
    )
    with pytest.raises(InvalidRequest):
        Anthropic().translate_request("my-claude", request, stream=False, base_model="anthropic/claude-opus-4-8")
    assert Anthropic().translate_request("my-claude", request, stream=False)["temperature"] == 0.5


SAMPLING = {"temperature": 0.5, "top_p": 0.9, "presence_penalty": 1, "logprobs": True, "top_logprobs": 2}


@pytest.mark.parametrize(
    ("model", "effort", "taken"),
    [
        ("gpt-4.1-mini", None, True),
        ("gpt-5-mini", None, False),
        ("gpt-5-2025-08-07", "low", False),
        ("gpt-5.5", None, False),
        ("gpt-6-astra", None, False),
        ("o1", None, False),
        ("o3-mini", "low", False),
        ("azure/eu/o4-mini", None, False),
        ("gpt-5-chat-latest", None, True),
        ("gpt-5.1", None, True),
        ("gpt-5.1", "low", False),
        ("gpt-5.2-pro", None, False),
        ("gpt-5.4-mini-2026-03-17", None, True),
        ("gpt-5.5", "none", True),
        ("gpt-35-turbo", None, True),
        ("gpt-4o", None, True),
        ("gpt-oss-120b", None, True),
        ("olmo-2", None, True),
        ("my-deployment", None, True),
    ],
)
def test_openais_reasoning_models_take_no_sampling(model: str, effort: str | None, taken: bool) -> None:
    body: dict[str, Any] = {"messages": [], "max_completion_tokens": 5, "reasoning_effort": effort}
    assert without_sampling(body | SAMPLING, model) == (body | SAMPLING if taken else body)


def test_a_default_is_taken_by_all() -> None:
    body = {"temperature": 1, "top_p": 1.0, "presence_penalty": 0, "logit_bias": {}, "frequency_penalty": None}
    assert without_sampling(body, "o3") == body
