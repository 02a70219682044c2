"""Translates OpenAI's embeddings request into Cohere's, and Cohere's answer back.

https://docs.cohere.com/reference/embed
"""

import struct
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.providers.content_parts import invalid_value
from manifold.providers.openai.batch_object import count
from manifold.providers.parameters import present, unsupported

DOCUMENT = "search_document"
"""Cohere's models want to know what a text is. OpenAI's clients do not say, and most embed documents in a batch."""
OWN = frozenset({"input_type", "truncate", "max_tokens"})
"""Cohere's own parameters, which are sent as they are."""
BASE64 = "base64"
FORMATS = ("float", BASE64)
TAKEN = frozenset({"model", "input", "encoding_format", "dimensions"})


def translate_request(body: Mapping[str, Any], *, drop_params: bool) -> dict[str, Any]:
    """The body of `POST /v2/embed` without a model. `InvalidRequest` names the parameter that cannot be translated."""
    encoding = body.get("encoding_format") or "float"
    if encoding not in FORMATS:
        raise invalid_value("encoding_format", "must be float or base64")
    unknown = [name for name in body.keys() - TAKEN - OWN if body[name] is not None]
    if unknown and not drop_params:
        raise unsupported(min(unknown), "its provider has no such parameter")
    own = {name: body[name] for name in OWN if body.get(name) is not None}
    return {
        "texts": _texts(body.get("input")),
        "input_type": DOCUMENT,
        "embedding_types": ["float"],
        **present(output_dimension=body.get("dimensions")),
        **own,
    }


def translate_response(answer: Mapping[str, Any], model: str, *, encoded: bool = False) -> dict[str, Any]:
    """OpenAI's list of embeddings, in base64 if `encoded`. Cohere does not name the model."""
    units = (answer.get("meta") or {}).get("billed_units") or {}
    tokens = count(units.get("input_tokens"))
    data = [
        {"object": "embedding", "index": index, "embedding": in_base64(vector) if encoded else vector}
        for index, vector in enumerate(_vectors(answer["embeddings"]))
    ]
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def in_base64(vector: Sequence[float]) -> str:
    """As OpenAI writes a vector: 32-bit numbers, the lowest byte first. Raises `ValueError` for other members."""
    try:
        return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except struct.error as error:
        raise ValueError("a vector of other members than numbers") from error


def _texts(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise invalid_value("input", "must be a text, or a list of texts: this model takes no tokens")
    return texts


def _vectors(embeddings: Mapping[str, Any] | Sequence[Any]) -> Sequence[Any]:
    """The vectors, under the name of their type."""
    vectors = embeddings.get("float") if isinstance(embeddings, dict) else embeddings
    if not isinstance(vectors, list) or not vectors:
        raise ProviderUnclear("an answer without embeddings")
    return vectors
