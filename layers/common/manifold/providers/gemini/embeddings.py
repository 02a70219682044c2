"""Translates OpenAI's request for an embedding into Gemini's, for batches, and the answer back.

https://ai.google.dev/api/embeddings. A batch answers each line with one vector, so a line has one text. What the
answer depends on is not told by it, so it goes into the line's key: `<id>[.base64][.<dimensions>]`.
"""

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers.batch_lines import LineRequest
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.google_api import number
from manifold.providers.parameters import Params

BASE64 = "base64"


class Embedding(NamedTuple):
    """One request, of which each API has its own form."""

    key: str
    content: dict[str, Any]
    dimensions: int | None
    own: Mapping[str, Any]
    """The provider's own fields, such as `taskType`."""


def translate_request(request: LineRequest) -> Embedding:
    """`InvalidRequest` names the parameter that cannot be translated."""
    params = Params(ProviderRequest.of_line(request, "/embeddings"))
    text, dimensions, encoding = _text(params.take("input")), params.take("dimensions"), params.take("encoding_format")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise InvalidRequest("'dimensions' must be a whole number above 0.", param="dimensions")
    if encoding not in (None, "float", BASE64):
        raise InvalidRequest("'encoding_format' must be float or base64.", param="encoding_format")
    key = ".".join([request.id, *([BASE64] if encoding == BASE64 else []), *([str(dimensions)] if dimensions else [])])
    return Embedding(key, {"parts": [{"text": text}]}, dimensions, params.rest())


def request_id(key: str) -> str:
    """`LineRequest.id` of a line's key."""
    return key.partition(".")[0]


def translate_response(key: str, answer: Mapping[str, Any], model: str) -> dict[str, Any]:
    """OpenAI's list with the embedding, and the usage: 0 if Gemini does not say it. `ProviderUnclear` without one."""
    _, *options = key.split(".")
    values = _values(answer)
    dimensions = next((int(option) for option in options if option.isdecimal()), len(values))
    vector = _shortened(values, dimensions)
    embedding: object = vector
    if BASE64 in options:
        embedding = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    tokens = _tokens(answer)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": embedding}],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _text(value: object) -> str:
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(text, str):
        message = "'input' must be one text: this model's batches take no tokens, and one text in each line."
        raise InvalidRequest(message, param="input")
    return text


def _values(answer: Mapping[str, Any]) -> list[float]:
    embedding = answer.get("embedding")
    values = embedding.get("values") if isinstance(embedding, dict) else None
    if not isinstance(values, list) or not values or not all(type(value) in (int, float) for value in values):
        raise ProviderUnclear("an answer without an embedding")
    return values


def _shortened(values: list[float], dimensions: int) -> list[float]:
    """The first dimensions, of length 1, where the batch ignored how many were asked for: Vertex AI did so.

    https://ai.google.dev/gemini-api/docs/embeddings#quality-for-smaller-dimensions
    """
    if dimensions >= len(values):
        return values
    first = values[:dimensions]
    length = math.hypot(*first)
    return [value / length for value in first] if length else first


def _tokens(answer: Mapping[str, Any]) -> int:
    usage = answer.get("usageMetadata")
    counts = usage if isinstance(usage, dict) else {}
    return number(counts.get("promptTokenCount")) or number(answer.get("tokenCount"))
