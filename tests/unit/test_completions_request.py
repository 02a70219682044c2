"""The request that a body asks for, and the shape of its answer."""

import json
from typing import Any

import pytest

from completions import request
from manifold.errors import InvalidRequest

PROMPT = [{"role": "user", "content": "Hello"}]


def read(**body: Any) -> request.CompletionRequest:
    return request.read(json.dumps({"model": "a", "messages": PROMPT} | body).encode(), "/chat/completions")


@pytest.mark.parametrize(
    ("model", "models", "several"),
    [
        ("a", ["a"], False),
        (["a"], ["a"], True),
        (["a", "b", "a"], ["a", "b", "a"], True),
        ("a, b", ["a", "b"], True),
    ],
)
def test_one_model_or_several(model: object, models: list[str], several: bool) -> None:
    parsed = read(model=model)

    assert (parsed.models, parsed.several_models) == (models, several)


def test_one_prompt_is_the_body_as_it_came() -> None:
    parsed = read(temperature=1, unknown={"x": 1})

    assert parsed.several_prompts is False
    assert parsed.bodies == [{"messages": PROMPT, "temperature": 1, "unknown": {"x": 1}}]


def test_several_prompts_are_a_body_each() -> None:
    parsed = read(messages=[PROMPT, PROMPT * 2], temperature=1)

    assert parsed.several_prompts is True
    assert parsed.bodies == [{"messages": PROMPT, "temperature": 1}, {"messages": PROMPT * 2, "temperature": 1}]


def test_the_gateways_own_members_are_taken_out() -> None:
    parsed = read(fastest_response=True, max_workers=7, timeout=1.5, num_retries=0)

    assert (parsed.fastest, parsed.workers, parsed.timeout, parsed.retries) == (True, 7, 1.5, 0)
    assert parsed.bodies == [{"messages": PROMPT}]


def test_null_is_as_if_left_out() -> None:
    parsed = read(fastest_response=None, max_workers=None, timeout=None, num_retries=None, stream=None)

    assert (parsed.fastest, parsed.workers, parsed.timeout, parsed.retries, parsed.stream) == (
        False,
        100,
        None,
        None,
        False,
    )


@pytest.mark.parametrize(
    "body", [{}, {"model": ["a", "b"], "fastest_response": True}, {"model": ["a"], "fastest_response": True}]
)
def test_what_has_one_answer_can_be_streamed(body: dict[str, Any]) -> None:
    assert read(stream=True, **body).stream is True


@pytest.mark.parametrize("body", [{"model": ["a"]}, {"model": "a,b"}, {"messages": [PROMPT]}])
def test_several_answers_cannot(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(stream=True, **body)

    assert refused.value.param == "stream"


def test_other_routes_take_one_model_whatever_is_in_its_name() -> None:
    parsed = request.read(b'{"model": "a,b", "input": "x", "messages": 3}', "/embeddings")

    assert (parsed.models, parsed.bodies) == (["a,b"], [{"input": "x", "messages": 3}])
    with pytest.raises(InvalidRequest):
        request.read(b'{"model": ["a"], "input": "x"}', "/embeddings")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "missing_body"), (b"{", "invalid_json"), (b"[]", "invalid_value"), (b"\xff", "invalid_json")],
)
def test_what_is_no_object(content: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        request.read(content, "/chat/completions")

    assert refused.value.code == code


def test_the_most_calls_are_still_made() -> None:
    assert len(read(messages=[PROMPT] * request.MAX_CALLS).bodies) == 1000
    assert len(read(model=["a"] * request.MAX_MODELS, messages=[PROMPT] * 10).models) == 100


def test_half_an_emoji_is_no_reason_to_refuse_a_prompt() -> None:
    """JavaScript's `slice` and Python's `json.dumps` make such texts; the provider gets a valid one."""
    parsed = request.read(
        rb'{"model": "a", "messages": [{"role": "user", "content": "cut \ud83d"}]}', "/chat/completions"
    )
    assert parsed.bodies[0]["messages"][0]["content"] == "cut \ufffd"
