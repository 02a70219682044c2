"""Completions of providers whose API is not OpenAI's: the one place where their dialects meet HTTP."""

import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from manifold.errors import InvalidRequest, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.chat import ProviderRequest
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.completion_client import CompletionClient
from manifold.providers.failures import failure_within, is_error, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.parameters import wants_usage
from manifold.providers.sse import DONE, Event


class RefusalRule(NamedTuple):
    """A refusal whose status says something else than the same status of OpenAI's does."""

    status: int
    words: re.Pattern[str]
    code: str
    """In OpenAI's vocabulary."""
    means: int
    """The status that OpenAI would have given it."""


class StreamReader(Protocol):
    """Turns one stream's events into chunks."""

    ended: bool
    """Whether the provider said that the answer is whole."""

    def read(self, name: str, event: Mapping[str, Any]) -> list[dict[str, Any]]: ...

    def close(self) -> list[dict[str, Any]]:
        """The chunks that the stream's end brings, for a provider that says its end by ending."""
        ...


class Dialect(Protocol):
    """What one provider says differently. Nothing here is sent: each method turns values into values."""

    @property
    def refusal_rules(self) -> Sequence[RefusalRule]: ...

    def call(self, at: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall: ...

    def translate_request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        """The provider's body. `InvalidRequest` names what cannot be said in it.

        `base_model` is what the model is, where its name does not tell: an ARN, or a deployment's own.
        """
        ...

    def translate_response(self, response: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        """OpenAI's chat completion. `ProviderUnclear` for an answer that is none."""
        ...

    def reader(self, chunks: ChunkBuilder) -> StreamReader: ...

    def events(
        self, client: CompletionClient, call: HttpCall, body: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]: ...


class DialectProvider:
    """A `ChatProvider` of one dialect."""

    def __init__(self, client: CompletionClient, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect

    async def complete(self, at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        body = self._body(at, request, stream=False)
        with self._meant():
            answer = await self._client.post(self._dialect.call(at, request, stream=False), body)
        with _readable():
            return self._dialect.translate_response(answer, at.model, int(time.time()))

    async def stream(self, at: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        body = self._body(at, request, stream=True)
        call = self._dialect.call(at, request, stream=True)
        reader = self._dialect.reader(ChunkBuilder(at.model, int(time.time()), wants_usage(request)))
        with self._meant():
            events = self._dialect.events(self._client, call, body)
            async with contextlib.aclosing(events), contextlib.aclosing(_chunks(events, reader, call)) as read:
                async for chunk in read:
                    yield chunk

    def _body(self, at: Endpoint, request: ProviderRequest, *, stream: bool) -> dict[str, Any]:
        if request.route != "/chat/completions":
            raise InvalidRequest("This model answers /chat/completions alone.", param="model", code="route_not_served")
        return self._dialect.translate_request(at.model, request, stream=stream, base_model=at.base_model)

    @contextlib.contextmanager
    def _meant(self) -> Iterator[None]:
        try:
            yield
        except ProviderRefused as refusal:
            raise translate_refusal(refusal, self._dialect.refusal_rules) from refusal.__cause__


def translate_refusal(refusal: ProviderRefused, refusal_rules: Sequence[RefusalRule]) -> ProviderRefused:
    """The refusal, with the status and the code that OpenAI would have given it."""
    for meaning in refusal_rules:
        if refusal.status == meaning.status and meaning.words.search(refusal.words or ""):
            refusal.code, refusal.status = meaning.code, meaning.means
            break
    return refusal


async def _chunks(
    events: AsyncIterator[Event], reader: StreamReader, call: HttpCall
) -> AsyncGenerator[dict[str, Any], None]:
    async for event in events:
        if event.data.strip() == DONE:
            break
        body = _object(event, call)
        with _readable():
            read = reader.read(event.name, body)
        for chunk in read:
            yield chunk
        if reader.ended:
            return
    for chunk in reader.close():
        yield chunk
    if not reader.ended:
        raise ProviderUnclear("the stream broke off before its end")


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """What a provider sends in another shape than it documents is no answer."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ProviderUnclear(f"an answer of an unknown shape: {type(error).__name__}") from error


def _object(event: Event, call: HttpCall) -> dict[str, Any]:
    """The event's object, unless it is the error that ends a stream that began well."""
    body = read_object(event.data)
    if body is None:
        raise ProviderUnclear("an event that is no JSON object")
    if event.name == "error" or is_error(body):
        raise failure_within(body, call)
    return body
