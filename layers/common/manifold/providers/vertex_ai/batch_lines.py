"""The lines of a batch at Vertex AI: of Gemini's models, of Claude's, and of Gemini's embeddings.

https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/batch-prediction-from-cloud-storage,
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/batch,
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings/batch-prediction-genai-embeddings
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.profiles.profile import CHAT, EMBEDDINGS
from manifold.providers import Endpoint
from manifold.providers.anthropic.request import translate_request as translate_claude_request
from manifold.providers.anthropic.response import translate_response as translate_claude_response
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.gemini import embeddings
from manifold.providers.gemini.batch_lines import (
    answer_of,
    answered,
    embedded,
    error_of,
    translated,
)
from manifold.providers.gemini.request import translate_request
from manifold.providers.google_api import created_at, refused
from manifold.providers.parameters import present

ANTHROPIC_VERSION = "vertex-2023-10-16"
LABELS = ("manifold_id_1", "manifold_id_2")
"""The labels of a request that carry its id: a label has at most 63 lower-case letters, digits, `_` and `-`."""
LABEL_LENGTH = 63
KEYED = "gemini-embedding"
"""In the names of the models for embeddings whose lines have a key."""


class GeminiLines:
    """A `LineTranslator` of Gemini's models. A result has the request in it, and the request our id as labels."""

    routes = frozenset({CHAT})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._family = endpoint.family

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        body = translate_request(self._family, ProviderRequest.of_line(request))
        labels = body.get("labels") or {}
        if not isinstance(labels, dict):
            raise InvalidRequest("'labels' must be an object.", param="labels")
        contents = [_without_ids(content) for content in body["contents"]]
        kept = {name: label for name, label in labels.items() if name not in LABELS}
        return {"request": {**body, "contents": contents, "labels": {**kept, **labels_of(request.id)}}}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        request = line.get("request")
        request_id = id_of(request.get("labels") if isinstance(request, dict) else None)
        answer = answer_of(line)
        return answered(request_id, answer, self._model) if answer else refused(request_id, error_of(line))


class ClaudeLines:
    """A `LineTranslator` of Claude's models."""

    routes = frozenset({CHAT})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._base_model = endpoint.base_model

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        body = translate_claude_request(self._model, ProviderRequest.of_line(request), self._base_model)
        del body["model"]
        return {"custom_id": request.id, "request": {"anthropic_version": ANTHROPIC_VERSION, **body}}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        request_id, answer = line.get("custom_id"), answer_of(line)
        if not isinstance(request_id, str) or not request_id:
            raise ProviderUnclear("a result without its custom_id")
        if not answer:
            return refused(request_id, error_of(line))
        created = created_at(line.get("processed_time"))
        return translated(request_id, lambda: translate_claude_response(answer, self._model, created))


class EmbeddingLines:
    """A `LineTranslator` of Gemini's models for embeddings.

    The older models' lines (`text-embedding-…`) have no key, and their results no order: they serve no route.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        has_keys = KEYED in endpoint.family
        self.routes = frozenset({EMBEDDINGS} if has_keys else ())

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        embedding = embeddings.translate_request(request)
        config = {**present(output_dimensionality=embedding.dimensions), **embedding.own}
        body = {"content": embedding.content, **present(embed_content_config=config or None)}
        return {"key": embedding.key, "request": body}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        return embedded(line, self._model)


def labels_of(request_id: str) -> dict[str, str]:
    """The labels that carry an id, which has upper-case letters: its Base32, in two pieces if it is long."""
    text = base64.b32encode(request_id.encode()).decode().rstrip("=").lower()
    pieces = [text[start : start + LABEL_LENGTH] for start in range(0, len(text), LABEL_LENGTH)]
    return dict(zip(LABELS, pieces, strict=False))


def id_of(labels: object) -> str:
    """The id that the labels of a request carry. `ProviderUnclear` if they carry none."""
    pieces = [labels.get(name, "") for name in LABELS] if isinstance(labels, dict) else []
    text = "".join(piece for piece in pieces if isinstance(piece, str)).upper()
    try:
        request_id = base64.b32decode(text + "=" * (-len(text) % 8)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ProviderUnclear("a result whose labels are not those of its request") from error
    if not request_id:
        raise ProviderUnclear("a result without the labels of its request")
    return request_id


def _without_ids(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content without the ids of calls, a field that Vertex AI refuses: it matches results by name and order."""
    return {**content, "parts": [_without_id(part) for part in content["parts"]]}


def _without_id(part: Mapping[str, Any]) -> Mapping[str, Any]:
    calls = {name: part[name] for name in ("functionCall", "functionResponse") if name in part}
    bare = {name: {key: value for key, value in call.items() if key != "id"} for name, call in calls.items()}
    return {**part, **bare}
