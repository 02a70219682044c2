"""HTTP for completions: many small calls at once, each of which may be cancelled.

The only module that knows aiohttp; docs/decisions has why it is not the client of the batches. Every outcome is a
value, a `ProviderRefused` or a `ProviderUnclear` (`manifold.providers.failures`). Nothing is retried, no redirect is
followed, no cookie kept.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import orjson
from yarl import URL

from manifold.errors import TIMEOUT, InvalidRequest, ProviderRefused, ProviderUnclear
from manifold.providers import response_body
from manifold.providers.failures import failure, failure_within, is_error, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event, Reader

KEEPALIVE_SECONDS = 15.0
DNS_SECONDS = 60
EVENT_STREAM = "text/event-stream"
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of one answer, after decoding: Lambda returns 6 MB, and providers send spaces that the gateway does not."""
MAX_ANSWERS = 64 * 1024 * 1024
"""Bytes of all answers that are read at once: a request may have a hundred."""
MAX_STREAM = 32 * 1024 * 1024
"""Bytes of a stream, after decoding: each token comes in an object of its own."""


class CompletionClient:
    """A session with as many connections as there are calls, opened at its first use within the running event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allowance = response_body.ByteBudget(MAX_ANSWERS)

    async def close(self) -> None:
        """Close the pooled connections, if they are of the running loop. The next call opens new ones."""
        if self._session is not None and self._loop is asyncio.get_running_loop():
            session, self._session = self._session, None
            await session.close()

    async def post(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> dict[str, Any]:
        """Send a JSON body, or bytes that are one, and return the JSON object that answers."""
        async with self._send(call, body) as response:
            content = await response_body.read_all(_pieces(response, MAX_ANSWER), self._allowance)
        answer = read_object(content)
        if answer is None:
            raise ProviderUnclear("an answer that is no JSON object", status=response.status)
        if is_error(answer):
            raise failure_within(answer, call)
        return answer

    async def events(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> AsyncGenerator[Event, None]:
        """Send a body and read the server-sent events that answer, to wherever the connection ends them."""
        reader = Reader()
        async with contextlib.aclosing(self.chunks(call, body, EVENT_STREAM)) as chunks:
            async for chunk in chunks:
                for event in _read(reader, chunk):
                    yield event

    async def chunks(
        self, call: HttpCall, body: Mapping[str, Any] | bytes, content_type: str
    ) -> AsyncGenerator[bytes, None]:
        """Send a body and read the bytes that answer, as they come. Another type of content is `ProviderUnclear`."""
        async with self._send(call, body) as response:
            if response.content_type != content_type:
                raise ProviderUnclear(f"another type of content than {content_type}", words=response.content_type)
            async for piece in _pieces(response, MAX_STREAM):
                yield piece

    @contextlib.asynccontextmanager
    async def _send(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """The successful answer. Its connection goes back to the pool if it was read to the end, and else closes."""
        content = body if isinstance(body, bytes) else _written(body)
        call = call.signed(content)
        timeout = aiohttp.ClientTimeout(total=call.timeout, connect=call.connect_timeout)
        with _provider_errors(call):
            async with self._open().post(
                # aiohttp would write the path in its own way, which is not the one that was signed.
                call.address if call.sign is None else URL(call.address, encoded=True),
                data=content,
                headers={"Content-Type": "application/json", **call.headers},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if not 200 <= response.status < 300:
                    content = await response_body.read_error(_raw(response), _encoding(response))
                    raise failure(response.status, response.headers, content, call)
                yield response

    def _open(self) -> aiohttp.ClientSession:
        """The session of the running loop. One of a loop that has ended cannot be used or closed any more."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=DNS_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "manifold", "Accept-Encoding": response_body.ACCEPT_ENCODING},
                auto_decompress=False,
            )
            self._loop = loop
        return self._session


def _written(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson reads 1,024 levels, and writes 254
        raise InvalidRequest("The request is nested too deep.", code="invalid_value") from error


@contextlib.contextmanager
def _provider_errors(call: HttpCall) -> Iterator[None]:
    """Turn the client library's errors into ours: no request left, or nobody knows what became of it."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise ProviderRefused(f"no connection to {call.host} in {call.connect_timeout:.1f} s", code=TIMEOUT) from error
    except aiohttp.ClientConnectorError as error:
        raise ProviderRefused(call.scrub(f"no connection to {call.host}: {type(error).__name__}")) from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise ProviderRefused(f"not a URL that can be called: check api_base ({call.host})", lasting=True) from error
    except ValueError as error:
        # What aiohttp raises for a header's value with a line break: its text may quote the key.
        raise ProviderRefused("no valid request: check the API key for stray characters", lasting=True) from error
    except TimeoutError as error:
        raise ProviderUnclear(f"no answer from {call.host} in {call.timeout:.1f} s", code=TIMEOUT) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ProviderUnclear(f"no answer from {call.host}: {type(error).__name__}") from error


def _read(reader: Reader, chunk: bytes) -> list[Event]:
    """The events that say something: an empty one keeps the connection alive."""
    try:
        return [event for event in reader.feed(chunk) if event.data.strip()]
    except ValueError as error:
        raise ProviderUnclear(str(error)) from error


def _pieces(response: aiohttp.ClientResponse, most: int) -> AsyncIterator[bytes]:
    return response_body.decoded(_raw(response), _encoding(response), most)


def _raw(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    return response.content.iter_any()


def _encoding(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("content-encoding", "")
