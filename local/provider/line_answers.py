"""The answer to a line of a batch, per endpoint: the same, and as strict, as to a request with this body."""

from collections.abc import Callable, Mapping
from typing import Any

from local.provider.completion_objects import (
    Stamp,
    chat_completion,
    chat_object,
    embedding_object,
    text_completion,
    text_object,
)
from local.provider.completion_requests import EmbeddingRequest, parse, parse_chat, parse_text
from local.provider.responses_api import response_object


def answer_line(url: str, body: Mapping[str, Any], dialect: str, stamp: Stamp) -> dict[str, Any]:
    """The endpoint's object, the same each time; raises a `Refusal` for a body that the endpoint does not take.

    `url` has no version; of the stamp the id belongs to the line, the time to the batch.
    """
    return ENDPOINTS[url](body, dialect, stamp)


def _chat(body: Mapping[str, Any], dialect: str, stamp: Stamp) -> dict[str, Any]:
    request = parse_chat(body)
    return chat_object(request, chat_completion(request, dialect, stamp))


def _completions(body: Mapping[str, Any], dialect: str, stamp: Stamp) -> dict[str, Any]:
    request = parse_text(body)
    return text_object(request, text_completion(request, stamp))


def _embeddings(body: Mapping[str, Any], dialect: str, stamp: Stamp) -> dict[str, Any]:
    return embedding_object(parse(EmbeddingRequest, body))


ENDPOINTS: Mapping[str, Callable[[Mapping[str, Any], str, Stamp], dict[str, Any]]] = {
    "/chat/completions": _chat,
    "/responses": response_object,
    "/completions": _completions,
    "/embeddings": _embeddings,
}
