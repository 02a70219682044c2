"""The answer to a line of a batch, per endpoint: the same, and as strict, as to a request with this body."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from local.provider.completion_objects import (
    chat_completion,
    chat_object,
    embedding_object,
    text_completion,
    text_object,
)
from local.provider.completion_requests import EmbeddingRequest, parse, parse_chat, parse_text
from local.provider.responses_api import response_object


def answer_line(url: str, body: Mapping[str, Any], dialect: str, id_suffix: str, created: int) -> dict[str, Any]:
    """The endpoint's object, the same each time; raises a `Refusal` for a body that the endpoint does not take.

    `url` has no version; `id_suffix` belongs to the line, `created` to the batch.
    """
    return ENDPOINTS[url](body, dialect, id_suffix, created)


def _chat(body: Mapping[str, Any], dialect: str, id_suffix: str, created: int) -> dict[str, Any]:
    request = parse_chat(body)
    return chat_object(request, replace(chat_completion(request, dialect), id_suffix=id_suffix, created=created))


def _completions(body: Mapping[str, Any], dialect: str, id_suffix: str, created: int) -> dict[str, Any]:
    request = parse_text(body)
    return text_object(request, replace(text_completion(request), id_suffix=id_suffix, created=created))


def _embeddings(body: Mapping[str, Any], dialect: str, id_suffix: str, created: int) -> dict[str, Any]:
    return embedding_object(parse(EmbeddingRequest, body))


ENDPOINTS: Mapping[str, Callable[[Mapping[str, Any], str, str, int], dict[str, Any]]] = {
    "/chat/completions": _chat,
    "/responses": response_object,
    "/completions": _completions,
    "/embeddings": _embeddings,
}
