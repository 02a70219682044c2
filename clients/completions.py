"""LiteLLM's three batch completion functions, over OpenAI's SDK, against this gateway. Copy this file, or import it.

    from clients.completions import batch_completion, batch_completion_models, batch_completion_models_all_responses

`MANIFOLD_BASE_URL` and `MANIFOLD_API_KEY` say where the gateway is and with which key, else `OPENAI_BASE_URL` and
`OPENAI_API_KEY` do. Each function makes one HTTP request. Further arguments (`temperature`, `max_tokens`, …) go into
its body, and so do `timeout`, in seconds, and `max_workers`, the number of calls at once, which the gateway reads.
"""

import os
from collections.abc import Sequence
from typing import Any

from openai import OpenAI, OpenAIError
from openai.types.chat import ChatCompletion

Messages = Sequence[dict[str, Any]]


class CompletionError(OpenAIError):
    """The error of one answer, in its place in the list. If the request fails, the SDK raises `APIStatusError`."""

    def __init__(self, message: str, type: str, param: str | None, code: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.param = param
        self.code = code


def batch_completion(
    model: str, messages: Sequence[Messages], max_workers: int = 100, timeout: float | None = None, **kwargs: Any
) -> list[ChatCompletion | CompletionError]:
    """Many prompts to one model: the answers in the prompts' order."""
    return _several(kwargs | {"model": model, "messages": messages, "max_workers": max_workers, "timeout": timeout})


def batch_completion_models(models: str | Sequence[str], messages: Messages, **kwargs: Any) -> ChatCompletion:
    """One prompt to many models: the first success; the others are cancelled. Raises if none of them answers.

    As in LiteLLM, a `model` beside `models` is ignored.
    """
    answer = _post(kwargs | {"model": _names(models), "messages": messages, "fastest_response": True})
    return ChatCompletion.construct(**answer)


def batch_completion_models_all_responses(
    models: str | Sequence[str], messages: Messages, **kwargs: Any
) -> list[ChatCompletion | CompletionError]:
    """One prompt to many models: the answers in the models' order."""
    return _several(kwargs | {"model": _names(models), "messages": messages})


def _names(models: str | Sequence[str]) -> list[str]:
    """The names in a list; a text may have several, separated by commas."""
    return models.split(",") if isinstance(models, str) else list(models)


def _several(body: dict[str, Any]) -> list[ChatCompletion | CompletionError]:
    # As the SDK builds its objects: an unknown value, such as a new `service_tier`, is no error.
    return [
        CompletionError(**one["error"]) if "error" in one else ChatCompletion.construct(**one) for one in _post(body)
    ]


def _post(body: dict[str, Any]) -> Any:
    address, key = os.environ.get("MANIFOLD_BASE_URL"), os.environ.get("MANIFOLD_API_KEY")
    with OpenAI(base_url=address, api_key=key) as client:
        return client.post("/chat/completions", body=body, cast_to=object)
