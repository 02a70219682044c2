"""Answers as a response: JSON that Lambda carries, and headers."""

import json

import pytest

from completions import rendering
from manifold.dispatch.attempts import Answer
from manifold.errors import CallFailed, InvalidRequest
from tests.support.deployments import deployment

LAMBDA_BYTES = 6_291_556
"""Measured: one byte more is a 502."""


def answer(text: str, name: str = "one") -> rendering.Completion:
    return Answer({"choices": [{"message": {"content": text}}]}, deployment(name), attempts=2, seconds=0.0123)


def response_bytes(content: bytes) -> int:
    """The answer as Lambda's runtime writes it: it encodes the body, which Mangum gives it as text, once more."""
    return len(json.dumps({"statusCode": 200, "body": content.decode()}, ensure_ascii=False).encode())


def test_a_single_answer() -> None:
    assert json.loads(rendering.single(answer("Hello"), held=True)) == {"choices": [{"message": {"content": "Hello"}}]}


@pytest.mark.parametrize(
    "text", ["x" * 6_300_000, '"' * 2_200_000, "\\" * 2_200_000, "\n" * 2_200_000, "ä" * 3_200_000]
)
def test_a_single_answer_that_lambda_would_not_carry(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rendering.single(answer(text), held=True)

    assert refused.value.code == "response_too_large"
    assert len(rendering.single(answer(text), held=False)) > 2_200_000


@pytest.mark.parametrize("text", ["x" * 6_200_000, '"' * 1_500_000, "ä" * 3_100_000])
def test_what_is_let_through_is_carried(text: str) -> None:
    assert response_bytes(rendering.single(answer(text), held=True)) < LAMBDA_BYTES


def array(outcomes: list[rendering.Outcome], width: int | None = None, *, held: bool = True) -> bytes:
    places = rendering.Array(len(outcomes), width, held=held)
    return b"[" + b"".join(places.next(rendering.in_place(one)) for one in outcomes) + b"]"


def deep(levels: int) -> rendering.Completion:
    """An answer that can be read, but not written again."""
    return Answer({"deep": json.loads("[" * levels + "]" * levels)}, deployment("one"), attempts=1, seconds=0.1)


def test_an_answer_that_is_nested_too_deep_is_an_error_in_its_place() -> None:
    content = array([deep(10), deep(300), answer("Hello")])

    first, second, third = json.loads(content)
    assert second["error"]["code"] == "provider_error"
    assert ("deep" in first, "choices" in third) == (True, True)
    with pytest.raises(CallFailed, match="nested too deep"):
        rendering.single(deep(300), held=True)


def test_of_several_those_that_fit_are_kept() -> None:
    large, small = answer("x" * 2_500_000), answer("small")

    content = array([large, large, large, small])

    kinds = ["error" if "error" in one else "answer" for one in json.loads(content)]
    assert kinds == ["answer", "answer", "error", "answer"]
    assert json.loads(content)[2]["error"]["code"] == "response_too_large"
    assert response_bytes(content) < LAMBDA_BYTES
    assert len(array([large, large, large, small], held=False)) > 7_500_000


def test_a_thousand_answers_never_come_to_more() -> None:
    content = array([answer("x" * 10_000)] * 1000)

    assert len(json.loads(content)) == 1000
    assert response_bytes(content) < LAMBDA_BYTES


def test_rows_are_nested_where_both_prompts_and_models_are_several() -> None:
    outcomes: list[rendering.Outcome] = [answer("a"), CallFailed("down", status=502), answer("b"), answer("c")]

    flat, nested, narrow = (json.loads(array(outcomes, width)) for width in (None, 2, 1))

    assert nested == [flat[:2], flat[2:]]
    assert narrow == [[one] for one in flat]
    assert flat[1] == CallFailed("down", status=502).body()


def test_headers_of_an_answer() -> None:
    assert rendering.headers(answer("x", "Köln/1")) == {
        "x-manifold-deployment": "K%C3%B6ln/1",
        "x-manifold-attempts": "2",
        "x-manifold-latency-ms": "12.3",
    }


@pytest.mark.parametrize(("wait", "header"), [(None, None), (0.2, "1"), (1.4, "2"), (30.0, "30")])
def test_a_failure_says_that_it_was_retried(wait: float | None, header: str | None) -> None:
    headers = rendering.headers_of_failure(CallFailed("busy", status=429, retry_after=wait))

    assert (headers["x-should-retry"], headers.get("retry-after")) == ("false", header)
