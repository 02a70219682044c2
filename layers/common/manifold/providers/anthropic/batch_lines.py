"""The lines of Message Batches: `{"custom_id", "params"}`, answered by `{"custom_id", "result"}`.

https://platform.claude.com/docs/en/api/creating-message-batches,
https://platform.claude.com/docs/en/api/retrieving-message-batch-results
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.profiles.profile import CHAT
from manifold.providers import Endpoint
from manifold.providers.anthropic.request import translate_request
from manifold.providers.anthropic.response import translate_response
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.error_patterns import prompt_error_code

STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 503,
    "timeout_error": 504,
}
"""OpenAI's status for each type of Anthropic's errors; any other is a 500."""
CODES: Mapping[str, str] = {
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "not_found_error": "model_not_found",
    "rate_limit_error": "rate_limit_exceeded",
}
"""OpenAI's code for a type, where it has one."""
UNSENT: Mapping[str, tuple[str, str]] = {
    "expired": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    "canceled": ("batch_cancelled", "This request was not executed, since its batch was cancelled."),
}
"""OpenAI's code and message for a request that was not executed."""

Translate = Callable[[Mapping[str, Any], str, int], dict[str, Any]]
"""Makes OpenAI's chat completion of an answer, the model that was asked, and Unix seconds."""


class MessageLines:
    """The `LineTranslator` of a Claude model."""

    routes = frozenset({CHAT})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._base_model = endpoint.base_model

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        chat = ProviderRequest.of_line(request)
        return {"custom_id": request.id, "params": translate_request(self._model, chat, self._base_model)}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        request_id, result = line["custom_id"], line["result"]
        kind = result.get("type")
        if kind == "succeeded":
            return answered(request_id, result["message"], self._model)
        if kind in UNSENT:
            return unsent(request_id, kind)
        return errored(request_id, result.get("error"))


def answered(request_id: str, message: Mapping[str, Any], model: str) -> LineResult:
    """The result of a request that Claude answered."""
    return translated(request_id, message, model, translate_response)


def translated(request_id: str, answer: Mapping[str, Any], model: str, translate: Translate) -> LineResult:
    """The result of a request that was answered; an answer that came to nothing is a failure of the provider's."""
    try:
        return LineResult(request_id, translate(answer, model, int(time.time())))
    except ProviderUnclear as error:
        message = ": ".join(part for part in (error.message, error.raw_detail) if part)
        return LineResult.refused(request_id, message, status=502)


def unsent(request_id: str, kind: str) -> LineResult:
    """The result of a request that was not executed, for one of `UNSENT`."""
    code, message = UNSENT[kind]
    return LineResult(request_id, code=code, message=message)


def errored(request_id: str, response: object) -> LineResult:
    """The result of a request that failed: `{"type": "error", "error": {"type", "message"}}`."""
    error = response.get("error", response) if isinstance(response, dict) else None
    error = error if isinstance(error, dict) else {}
    kind, message = str(error.get("type")), str(error.get("message") or "The provider gave no reason.")
    status = STATUSES.get(kind, 500)
    code = prompt_error_code(status, kind, message)
    if code is not None:
        return LineResult.refused(request_id, message, status=400, code=code)
    return LineResult.refused(request_id, message, status=status, code=CODES.get(kind))
