"""Translates OpenAI's request for embeddings into those of Titan and Cohere at Bedrock, and their answers back.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.openai.batch_object import count
from manifold.providers.parameters import Params, merged

FIRST_TITAN = "titan-embed-text-v1"
"""It has no parameters."""
BASE64 = "base64"
MOST_TEXTS = 96
"""Of one request to Cohere's models; Titan's take one."""
INPUT_TYPE = "search_document"
"""What texts are for, which Cohere's models must be told."""


def embeds(model: str) -> bool:
    """Whether the model makes embeddings, as its name says."""
    return "embed" in model


def translate_request(model: str, request: ProviderRequest) -> dict[str, Any]:
    """The body of `InvokeModel`. `InvalidRequest` names the parameter that cannot be translated."""
    params = Params(request)
    params.take("encoding_format")
    dimensions, texts = params.take("dimensions"), _texts(params.take("input"))
    ours = _cohere(model, texts, dimensions, params) if "cohere" in model else _titan(model, texts, dimensions, params)
    return merged(ours, params.rest())


def encoding_of(request: ProviderRequest) -> str:
    """How the answer's vectors are to be written: as numbers (`float`) or in `base64`. `InvalidRequest` otherwise."""
    encoding = request.body.get("encoding_format") or "float"
    if encoding not in ("float", BASE64):
        raise InvalidRequest("'encoding_format' must be float or base64.", param="encoding_format")
    return str(encoding)


def translate_response(answer: Mapping[str, Any], model: str, encoding: str = "float") -> dict[str, Any]:
    """OpenAI's list of embeddings. `ProviderUnclear` if the answer has none. Cohere's models count no tokens:
    the usage, which OpenAI's type has, is then 0."""
    encode = _base64 if encoding == BASE64 else list
    data = [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(_vectors(answer))
    ]
    tokens = count(answer.get("inputTextTokenCount"))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _texts(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest("'input' must be a text or a list of texts: this model takes no tokens.", param="input")
    return texts


def _titan(model: str, texts: Sequence[str], dimensions: Any, params: Params) -> dict[str, Any]:
    if len(texts) > 1:
        raise InvalidRequest("'input' must be one text: this model takes no list in one request.", param="input")
    if dimensions is None:
        return {"inputText": texts[0]}
    if FIRST_TITAN in model:
        params.refuse("dimensions", "this model has one size")
        return {"inputText": texts[0]}
    if "embed-image" in model:
        return {"inputText": texts[0], "embeddingConfig": {"outputEmbeddingLength": dimensions}}
    return {"inputText": texts[0], "dimensions": dimensions}


def _cohere(model: str, texts: Sequence[str], dimensions: Any, params: Params) -> dict[str, Any]:
    if len(texts) > MOST_TEXTS:
        raise InvalidRequest(f"'input' may have {MOST_TEXTS} texts at most.", param="input")
    ours: dict[str, Any] = {"texts": texts, "input_type": INPUT_TYPE, "embedding_types": ["float"]}
    if dimensions is not None and "-v3" in model:
        params.refuse("dimensions", "this model has one size")
    elif dimensions is not None:
        ours["output_dimension"] = dimensions
    return ours


def _vectors(answer: Mapping[str, Any]) -> list[list[float]]:
    """Titan has one vector; Cohere a list of them, by their type where that was asked for."""
    vectors = answer.get("embeddings", [answer.get("embedding")])
    if isinstance(vectors, dict):
        vectors = vectors.get("float")
    if not isinstance(vectors, list) or not vectors or not all(map(_is_vector, vectors)):
        raise ProviderUnclear("an answer without an embedding")
    return vectors


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(number) in (int, float) for number in value)
