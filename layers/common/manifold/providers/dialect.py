"""Completions of providers whose API is not OpenAI's: `Dialect` translates, `DialectProvider` sends."""

import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from manifold.errors import InvalidRequest, ProviderRefused, ProviderUnclear
from manifold.provider_errors import is_error
from manifold.providers import Endpoint
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.failures import UNREADABLE, failure_within, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.parameters import wants_usage
from manifold.providers.sse import DONE, Event

if TYPE_CHECKING:
    from manifold.providers.completion_client import CompletionClient


class RefusalRule(NamedTuple):
    """A refusal to which OpenAI gives another status than this provider does."""

    status: int
    """The provider's."""
    pattern: re.Pattern[str]
    """Searched for in the provider's message."""
    code: str
    """OpenAI's."""
    openai_status: int


class StreamReader(Protocol):
    """Translates the events of one stream into OpenAI's chunks."""

    ended: bool
    """Whether the provider has said that the answer is complete."""

    def read(self, name: str, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks of one event, which may be none. `name` is the event's type, `event` its JSON object."""
        ...

    def close(self) -> list[dict[str, Any]]:
        """The last chunks, for a provider that marks the end of a stream by closing it. Sets `ended`."""
        ...


class Dialect(Protocol):
    """Translates between OpenAI's API and that of one provider. Only `events` uses the network, through the client.

    A value of another shape than the provider documents may raise `LookupError`, `TypeError`, `AttributeError`,
    `ValueError` or `OverflowError`: the caller turns these into `ProviderUnclear`.
    """

    @property
    def refusal_rules(self) -> Sequence[RefusalRule]:
        """The first rule that matches a refusal corrects its status and code."""
        ...

    def call(self, endpoint: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        """URL, headers and timeout. `ProviderRefused` if the endpoint's configuration is not enough for them."""
        ...

    def translate_request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        """The provider's body. `InvalidRequest` names the parameter that cannot be translated.

        `base_model` is the underlying model, where `model` does not tell: an ARN, or a deployment's own name.
        """
        ...

    def translate_response(self, response: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        """OpenAI's chat completion. `ProviderUnclear` if the response holds no answer.

        `model` is the one that was asked for, `created` Unix seconds.
        """
        ...

    def reader(self, chunks: ChunkBuilder) -> StreamReader:
        """The reader of one stream, which makes its chunks by `chunks`."""
        ...

    def events(
        self, client: "CompletionClient", call: HttpCall, body: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        """POST the body and read the events of the stream that answers; each has a JSON object as `data`."""
        ...


class DialectProvider:
    """A `CompletionProvider` by one dialect."""

    def __init__(self, client: "CompletionClient", dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect

    async def complete(self, endpoint: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        body = self._body(endpoint, request, stream=False)
        with self._translated_refusals():
            answer = await self._client.post(self._dialect.call(endpoint, request, stream=False), body)
        with _unreadable_as_unclear():
            return self._dialect.translate_response(answer, endpoint.model, int(time.time()))

    async def stream(self, endpoint: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        body = self._body(endpoint, request, stream=True)
        call = self._dialect.call(endpoint, request, stream=True)
        reader = self._dialect.reader(ChunkBuilder(endpoint.model, int(time.time()), wants_usage(request)))
        with self._translated_refusals():
            events = self._dialect.events(self._client, call, body)
            async with contextlib.aclosing(events), contextlib.aclosing(_chunks(events, reader, call)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def _body(self, endpoint: Endpoint, request: ProviderRequest, *, stream: bool) -> dict[str, Any]:
        if request.route != "/chat/completions":
            raise InvalidRequest("This model answers only /chat/completions.", param="model", code="route_not_served")
        return self._dialect.translate_request(endpoint.model, request, stream=stream, base_model=endpoint.base_model)

    @contextlib.contextmanager
    def _translated_refusals(self) -> Iterator[None]:
        try:
            yield
        except ProviderRefused as refusal:
            raise translate_refusal(refusal, self._dialect.refusal_rules) from refusal.__cause__


def translate_refusal(refusal: ProviderRefused, rules: Sequence[RefusalRule]) -> ProviderRefused:
    """The same refusal, with the status and the code that OpenAI gives it, by the first rule that matches."""
    for rule in rules:
        if refusal.status == rule.status and rule.pattern.search(refusal.raw_detail or ""):
            refusal.code, refusal.status = rule.code, rule.openai_status
            break
    return refusal


async def _chunks(
    events: AsyncIterator[Event], reader: StreamReader, call: HttpCall
) -> AsyncGenerator[dict[str, Any], None]:
    async for event in events:
        if event.data.strip() == DONE:
            break
        body = _json_object(event, call)
        with _unreadable_as_unclear():
            chunks = reader.read(event.name, body)
        for chunk in chunks:
            yield chunk
        if reader.ended:
            return
    for chunk in reader.close():
        yield chunk
    if not reader.ended:
        raise ProviderUnclear("the stream broke off before its end")


@contextlib.contextmanager
def _unreadable_as_unclear() -> Iterator[None]:
    """An answer of another shape than the provider documents is `ProviderUnclear`."""
    try:
        yield
    except UNREADABLE as error:
        raise ProviderUnclear(f"an answer of an unknown shape: {type(error).__name__}") from error


def _json_object(event: Event, call: HttpCall) -> dict[str, Any]:
    """The event's JSON object. Raises if the event is an error, which ends the stream."""
    body = read_object(event.data)
    if body is None:
        raise ProviderUnclear("an event that is no JSON object")
    if event.name == "error" or is_error(body):
        raise failure_within(body, call)
    return body
