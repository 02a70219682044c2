"""What a batch's line is answered, per API: the same, and as strictly, as a call with this body would be."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from local.provider.answers import chat_answer, chat_object, embedding_object, text_answer, text_object
from local.provider.asks import EmbeddingAsk, chat_ask, read_ask, text_ask
from local.provider.responses import response_object


def reply(url: str, body: Mapping[str, Any], dialect: str, mark: str, created: int) -> dict[str, Any]:
    """The API's object, the same each time; a `Refusal` for a body that it does not take.

    `url` has no version; `mark` and `created` are the line's and the batch's own.
    """
    return REPLIES[url](body, dialect, mark, created)


def _chat(body: Mapping[str, Any], dialect: str, mark: str, created: int) -> dict[str, Any]:
    ask = chat_ask(body)
    return chat_object(ask, replace(chat_answer(ask, dialect), mark=mark, created=created))


def _completions(body: Mapping[str, Any], dialect: str, mark: str, created: int) -> dict[str, Any]:
    ask = text_ask(body)
    return text_object(ask, replace(text_answer(ask), mark=mark, created=created))


def _embeddings(body: Mapping[str, Any], dialect: str, mark: str, created: int) -> dict[str, Any]:
    return embedding_object(read_ask(EmbeddingAsk, body))


REPLIES: Mapping[str, Callable[[Mapping[str, Any], str, str, int], dict[str, Any]]] = {
    "/chat/completions": _chat,
    "/responses": response_object,
    "/completions": _completions,
    "/embeddings": _embeddings,
}
