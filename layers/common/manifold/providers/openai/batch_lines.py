"""Lines of OpenAI's form with a `custom_id` and a `body` alone: of Mistral, Together, Fireworks and OpenRouter.

https://docs.mistral.ai/capabilities/batch; https://docs.together.ai/docs/batch-inference;
https://docs.fireworks.ai/guides/batch-inference
"""

from collections.abc import Mapping
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.profiles.profile import CHAT
from manifold.provider_errors import is_error, status_within
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.failures import error_details
from manifold.providers.openai.messages import MessageSanitizer
from manifold.providers.openai.reasoning import without_sampling

OF_A_COMPLETION = frozenset({"model", "stream", "stream_options"})
"""Parameters that no line has: the model is the deployment's, and nothing is streamed."""
REQUEST_FAILED = "request_failed"
"""The code of a request that the provider reports as failed, without a code and without a response."""
NO_REASON = "The provider gave no reason."


class BodyLines:
    """A `LineTranslator`. `provider` and `base_url` tell which members of messages the server accepts.

    `model` is written into each body; `None`: the job names the model.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        model: str | None,
        *,
        base_model: str | None = None,
        routes: frozenset[str] = frozenset({CHAT}),
    ) -> None:
        self.routes = routes
        self._sanitizer = MessageSanitizer(provider, base_url)
        self._model = model
        self._base_model = base_model

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        body = self._sanitizer.body(request.body) if request.route == CHAT else request.body
        if request.drop_params and (model := self._base_model or self._model):
            body = without_sampling(body, model)
        kept = {name: value for name, value in body.items() if name not in OF_A_COMPLETION}
        named = {} if self._model is None else {"model": self._model}
        return {"custom_id": request.id, "body": {**named, **kept}}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        return read_result(line)


def read_result(line: Mapping[str, Any]) -> LineResult:
    """The result of a line like OpenAI's: `{"custom_id", "response", "error"}`.

    The response is `{"status_code", "body"}`, or the body itself, as Fireworks writes it. A line with a status of 400
    and above or with an error has failed, in whichever file it is. `ProviderUnclear` for a line with neither.
    """
    request_id, response, error = line["custom_id"], line.get("response"), line.get("error")
    if not isinstance(request_id, str):
        raise ProviderUnclear("a result without a custom_id")
    if isinstance(response, dict) and response:
        status, body = _response(response)
        if status < 400 and not error and isinstance(body, dict) and not is_error(body):
            return LineResult(request_id, body, status)
        if status >= 400 or is_error(body if isinstance(body, dict) else {}):
            return _failed_response(request_id, status, body, error)
    if error:
        return without_response(request_id, error)
    raise ProviderUnclear("a result without a response")


def _response(response: Mapping[str, Any]) -> tuple[int, object]:
    """The status and the body."""
    status = response.get("status_code")
    body = response.get("body", response)
    return (status if type(status) is int else 200), body


def _failed_response(request_id: str, status: int, body: object, error: object) -> LineResult:
    """The response of a request that failed. OpenAI's error object is kept as it is."""
    shape = body if isinstance(body, dict) else {"error": body or error}
    status = status if status >= 400 else status_within(shape)
    if isinstance(body, dict) and isinstance(body.get("error"), dict) and body["error"].get("message"):
        return LineResult(request_id, body, status)
    text, code, param = error_details(shape)
    return LineResult.refused(request_id, text or NO_REASON, status=status, code=code or None, param=param)


def without_response(request_id: str, error: object) -> LineResult:
    """The result of a request that was not executed, or whose failure has no status."""
    shape = error if isinstance(error, dict) else {"error": error if isinstance(error, str) else str(error)}
    text, code, param = error_details(shape)
    status = shape.get("status_code", shape.get("code"))
    if type(status) is int and 400 <= status <= 599:
        return LineResult.refused(request_id, text or NO_REASON, status=status, code=code or None, param=param)
    return LineResult(request_id, code=code or REQUEST_FAILED, message=text or NO_REASON)
