"""The lines of OpenRouter's batches: `{"custom_id", "body"}` with OpenAI's bodies, answered by OpenAI's lines.

https://openrouter.ai/docs/batch-quickstart
"""

import re
from collections.abc import Mapping
from typing import Any

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.profiles.profile import CHAT, EMBEDDINGS, RESPONSES
from manifold.provider_errors import is_error, status_of
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.error_patterns import prompt_error_code
from manifold.providers.openai.messages import MessageSanitizer

REQUIRED: Mapping[str, str] = {CHAT: "messages", RESPONSES: "input", EMBEDDINGS: "input"}
"""What a line of each route must have."""
BATCHS_OWN = frozenset({"model", "stream", "stream_options"})
"""Members that a batch has no use for: the model is that of the batch, and nothing is streamed."""
UNSENT: Mapping[str, str] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed, since its batch was cancelled.",
}
"""Codes of requests without a response, with OpenAI's words for them."""
STATUS = re.compile("[1-5][0-9]{2}")


class OpenRouterLines:
    """The `LineTranslator` of any model at OpenRouter."""

    routes = frozenset(REQUIRED)

    def __init__(self, endpoint: Endpoint) -> None:
        self._sanitizer = MessageSanitizer("openrouter", endpoint.base_url)

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        if (name := REQUIRED[request.route]) not in request.body:  # one such line fails the whole job
            raise InvalidRequest(f"'{name}' is missing.", param=name, code="missing_required_parameter")
        body = self._sanitizer.body(request.body) if request.route == CHAT else request.body
        return {
            "custom_id": request.id,
            "body": {name: value for name, value in body.items() if name not in BATCHS_OWN},
        }

    def result(self, line: Mapping[str, Any]) -> LineResult:
        request_id, response, error = line["custom_id"], line.get("response"), line.get("error")
        if not isinstance(response, dict):
            return _failed(request_id, error, 500)
        body, status = response.get("body"), _status(response.get("status_code")) or 200
        if not isinstance(body, dict):
            raise ProviderUnclear("a response without a body")
        if status < 400 and not error and not is_error(body):
            return LineResult(request_id, body)
        return _failed(request_id, body.get("error") or error or body, status if status >= 400 else 500)


def _failed(request_id: str, error: object, status: int) -> LineResult:
    """The result of a request that failed; `status` counts where the error has none."""
    error = error if isinstance(error, dict) else {"message": error}
    names = [str(error[name]) for name in ("code", "type", "error_type") if error.get(name) is not None]
    unsent = next((name for name in names if name in UNSENT), None)
    if unsent is not None:
        return LineResult(request_id, code=unsent, message=UNSENT[unsent])
    status = next((one for one in map(status_of, names) if one is not None), status)
    message = str(error.get("message") or "The provider gave no reason.")
    code = prompt_error_code(status, None, message)
    if code is not None:
        return LineResult.refused(request_id, message, status=400, code=code)
    param = error.get("param")
    return LineResult.refused(request_id, message, status=status, param=param if isinstance(param, str) else None)


def _status(value: object) -> int | None:
    """An HTTP status, also from a text."""
    return int(str(value)) if STATUS.fullmatch(str(value)) else None
