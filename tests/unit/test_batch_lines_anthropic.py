"""Lines of Message Batches: requests as Anthropic takes them, results as OpenAI writes them."""

from typing import Any

import pytest

from manifold.errors import InvalidRequest
from manifold.providers import Endpoint
from manifold.providers.anthropic.batch_lines import MessageLines
from manifold.providers.batch_lines import LineRequest, LineResult

LINES = MessageLines(Endpoint("claude-sonnet-5", "https://api.anthropic.com", "sk-ant"))
CHAT = "/v1/chat/completions"
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-20260101",
    "content": [{"type": "text", "text": "Four."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 3, "service_tier": "batch"},
}


def result(**outcome: Any) -> LineResult:
    return LINES.result({"custom_id": "input_A-0", "result": outcome})


def errored(kind: str, message: str = "No.") -> LineResult:
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
    return result(type="errored", error=error)


def test_a_request_is_a_message_without_stream() -> None:
    body = {
        "model": "group",
        "stream": True,
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}],
    }
    assert LINES.request(LineRequest("input_A-0", CHAT, body)) == {
        "custom_id": "input_A-0",
        "params": {
            "model": "claude-sonnet-5",
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}],
            "max_tokens": 9,
        },
    }


def test_a_parameter_that_cannot_be_translated_is_named_or_left_out() -> None:
    body = {"messages": [{"role": "user", "content": "?"}], "n": 2}
    with pytest.raises(InvalidRequest) as error:
        LINES.request(LineRequest("input_A-0", CHAT, body))
    assert error.value.param == "n"
    assert "n" not in LINES.request(LineRequest("input_A-0", CHAT, body, drop_params=True))["params"]


def test_a_message_becomes_a_chat_completion() -> None:
    answered = result(type="succeeded", message=MESSAGE)
    assert (answered.id, answered.status, answered.failed) == ("input_A-0", 200, False)
    assert answered.body is not None
    assert answered.body["choices"][0]["message"]["content"] == "Four."
    assert answered.body["usage"]["total_tokens"] == 15


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid_request_error", 400, None),
        ("authentication_error", 401, "invalid_api_key"),
        ("billing_error", 402, "insufficient_quota"),
        ("permission_error", 403, None),
        ("not_found_error", 404, "model_not_found"),
        ("request_too_large", 413, None),
        ("rate_limit_error", 429, "rate_limit_exceeded"),
        ("api_error", 500, None),
        ("overloaded_error", 503, None),
        ("timeout_error", 504, None),
        ("new_error", 500, None),
    ],
)
def test_an_error_has_openais_status_and_code(kind: str, status: int, code: str | None) -> None:
    refused = errored(kind)
    assert refused.failed
    assert refused.status == status
    assert refused.body is not None
    assert (refused.body["error"]["code"], refused.body["error"]["message"]) == (code, "No.")


def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    refused = errored("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    assert refused.body is not None
    assert (refused.status, refused.body["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(("kind", "code"), [("expired", "batch_expired"), ("canceled", "batch_cancelled")])
def test_a_request_that_was_not_executed_has_no_response(kind: str, code: str) -> None:
    unsent = result(type=kind)
    assert (unsent.code, unsent.body, unsent.failed) == (code, None, True)
    assert unsent.message


@pytest.mark.parametrize("outcome", [{"type": "errored", "error": None}, {"type": "new"}, {"type": "errored"}])
def test_an_outcome_of_another_shape_is_a_failure(outcome: dict[str, Any]) -> None:
    assert result(**outcome).status == 500


def test_a_message_without_content_is_a_failure_of_the_provider() -> None:
    assert result(type="succeeded", message=MESSAGE | {"content": None}).status == 502
