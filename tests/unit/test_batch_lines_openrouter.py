"""Lines of OpenRouter's batches: OpenAI's bodies without what a batch has itself, and OpenAI's results."""

from typing import Any

import pytest

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.openrouter.batch_lines import OpenRouterLines

LINES = OpenRouterLines(Endpoint("openai/gpt-6-luna:batch", "https://openrouter.ai/api/v1", "sk-or"))


def result(**members: Any) -> LineResult:
    return LINES.result({"id": "r", "custom_id": "input_A-0", "response": None, "error": None, **members})


@pytest.mark.parametrize(
    ("route", "own"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "2 + 2?"}]}),
        ("/v1/responses", {"input": "2 + 2?"}),
        ("/v1/embeddings", {"input": ["a", "b"]}),
    ],
)
def test_a_body_has_neither_model_nor_stream(route: str, own: dict[str, Any]) -> None:
    body = {"model": "group", "stream": False, "stream_options": None, "provider": {"only": ["openai"]}, **own}
    assert LINES.request(LineRequest("input_A-0", route, body)) == {
        "custom_id": "input_A-0",
        "body": {"provider": {"only": ["openai"]}, **own},
    }


@pytest.mark.parametrize(
    ("route", "param"),
    [("/v1/chat/completions", "messages"), ("/v1/responses", "input"), ("/v1/embeddings", "input")],
)
def test_a_line_that_would_fail_the_whole_job_is_not_sent(route: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        LINES.request(LineRequest("input_A-0", route, {"model": "group"}))
    assert raised.value.param == param


def test_members_of_answers_that_openrouter_refuses_are_left_out() -> None:
    message = {"role": "assistant", "content": "4", "thinking_blocks": [], "reasoning": "Sum."}
    body = {"messages": [{"role": "user", "content": "2 + 2?"}, message]}
    sent = LINES.request(LineRequest("input_A-0", "/v1/chat/completions", body))["body"]["messages"]
    assert sent[1] == {"role": "assistant", "content": "4", "reasoning": "Sum."}


def test_a_response_is_passed_on() -> None:
    body = {"object": "chat.completion", "choices": []}
    assert result(response={"status_code": 200, "request_id": "r", "body": body}) == LineResult("input_A-0", body)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"message": "No.", "type": "invalid_request_error", "param": "messages"}, 400, None),
        ({"message": "No.", "type": "error", "code": 402}, 402, None),
        ({"message": "No.", "type": "server_error", "error_type": "rate_limit_exceeded"}, 429, None),
        ({"message": "This model's maximum context length is 8 tokens", "code": 400}, 400, "context_length_exceeded"),
        ({"message": "No."}, 500, None),
        ("No.", 500, None),
        (None, 500, None),
    ],
)
def test_an_error_has_a_status(error: object, status: int, code: str | None) -> None:
    failed = result(error=error)
    assert failed.failed
    assert failed.status == status
    assert failed.body is not None
    assert failed.body["error"]["code"] == code


def test_a_response_with_an_error_is_a_failure() -> None:
    error = {"error": {"code": 400, "message": "No."}}
    failed = result(response={"status_code": 400, "request_id": "r", "body": error})
    assert failed.status == 400
    assert failed.body is not None
    assert failed.body["error"]["message"] == "No."


ANSWER = {"object": "chat.completion", "choices": []}


@pytest.mark.parametrize(
    ("response", "error", "status"),
    [
        ({"status_code": 200, "body": {"error": {"code": 502, "message": "No."}, "user_id": "user_1"}}, None, 502),
        ({"status_code": 200, "body": {"error": {"code": "server_error", "message": "No."}}}, None, 500),
        ({"status_code": 200, "body": {"error": {"code": 200, "message": "No."}}}, None, 500),
        ({"status_code": 200, "body": {"error": "No."}}, None, 500),
        ({"body": {"error": {"code": 429, "message": "No."}}}, None, 429),
        ({"status_code": 200, "body": {"object": "error", "message": "No.", "code": 400}}, None, 400),
        ({"status_code": 200, "body": ANSWER}, {"code": 429, "message": "No."}, 429),
        ({"status_code": 200, "body": ANSWER}, "No.", 500),
        ({"status_code": 503, "body": {}}, {"message": "No."}, 503),
    ],
)
def test_an_error_in_a_success_is_a_failure(response: dict[str, Any], error: object, status: int) -> None:
    failed = result(response=response, error=error)
    assert failed.status == status
    assert failed.body is not None
    assert failed.body["error"]["message"] == "No."


@pytest.mark.parametrize("no_error", [{}, {"error": None}, {"error": {}}])
def test_an_answer_may_say_that_it_has_no_error(no_error: dict[str, Any]) -> None:
    body = {"object": "response", "status": "completed", "output": [], **no_error}
    assert result(response={"status_code": 200, "body": body}) == LineResult("input_A-0", body)


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_a_request_that_was_not_executed_has_no_response(code: str) -> None:
    unsent = result(error={"message": "?", "type": "batch_error", "code": code})
    assert (unsent.code, unsent.body) == (code, None)


def test_a_response_without_a_body_is_unclear() -> None:
    with pytest.raises(ProviderUnclear):
        result(response={"status_code": 200, "request_id": "r", "body": None})
