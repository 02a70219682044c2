"""The lines of a batch at the Gemini API: `{"key", "request"}`, answered by `{"key", "response" or "error"}`.

https://ai.google.dev/gemini-api/docs/batch-api#input-file
"""

from collections.abc import Callable, Mapping
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.profiles.profile import CHAT, EMBEDDINGS
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.failures import UNREADABLE
from manifold.providers.gemini import embeddings
from manifold.providers.gemini.request import translate_request
from manifold.providers.gemini.response import translate_response
from manifold.providers.google_api import created_at, refused
from manifold.providers.parameters import merged, present


def embeds(endpoint: Endpoint) -> bool:
    """Whether the deployment's model makes embeddings, as its name says."""
    return "embedding" in endpoint.family


class ChatLines:
    """A `LineTranslator` of a model that answers."""

    routes = frozenset({CHAT})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._family = endpoint.family

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        chat = ProviderRequest.of_line(request)
        return {"key": request.id, "request": translate_request(self._family, chat)}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        key = key_of(line)
        answer = answer_of(line)
        return answered(key, answer, self._model) if answer else refused(key, error_of(line))


class EmbeddingLines:
    """A `LineTranslator` of a model that makes embeddings."""

    routes = frozenset({EMBEDDINGS})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        embedding = embeddings.translate_request(request)
        ours = {"content": embedding.content, **present(outputDimensionality=embedding.dimensions)}
        return {"key": embedding.key, "request": merged(ours, embedding.own)}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        return embedded(line, self._model)


def embedded(line: Mapping[str, Any], model: str) -> LineResult:
    """The result of a request for an embedding."""
    key, answer = key_of(line), answer_of(line)
    request_id = embeddings.request_id(key)
    if not answer:
        return refused(request_id, error_of(line))
    return translated(request_id, lambda: embeddings.translate_response(key, answer, model))


def answered(request_id: str, answer: Mapping[str, Any], model: str) -> LineResult:
    """The result of a chat completion. Vertex AI says when it was created."""
    created = created_at(answer.get("createTime"))
    return translated(request_id, lambda: translate_response(answer, model, created))


def translated(request_id: str, translate: Callable[[], dict[str, Any]]) -> LineResult:
    """The result of a request that was answered; an answer that came to nothing is a failure of the provider's."""
    try:
        return LineResult(request_id, translate())
    except ProviderUnclear as error:
        message = ": ".join(part for part in (error.message, error.raw_detail) if part)
        return LineResult.refused(request_id, message, status=500)
    except UNREADABLE:  # the line itself may not tell its id
        return LineResult.refused(request_id, "the provider's answer cannot be read", status=500)


def key_of(line: Mapping[str, Any]) -> str:
    """The key of a result. `ProviderUnclear` if it has none."""
    key = line.get("key")
    if not isinstance(key, str) or not key:
        raise ProviderUnclear("a result without its key")
    return key


def answer_of(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """The response of a result, empty if there is none, or an error."""
    answer = line.get("response")
    return {} if not isinstance(answer, dict) or error_of(line) else answer


def error_of(line: Mapping[str, Any]) -> object:
    """The error of a result without a response, in one of the places where Google has it."""
    response = line.get("response")
    within = response.get("error") if isinstance(response, dict) else None
    return line.get("error") or line.get("status") or within
