"""HTTP for completions: many small requests at the same time, each of which may be cancelled.

The only module that imports aiohttp (docs/decisions/0008-http-transport.md). A request returns its answer, or raises
`ProviderRefused` or `ProviderUnclear`. Nothing is retried, no redirect is followed, no cookie is kept.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import orjson
from yarl import URL

from manifold.errors import TIMEOUT, InvalidRequest, ProviderRefused, ProviderUnclear
from manifold.provider_errors import is_error
from manifold.providers import response_body
from manifold.providers.failures import failure, failure_within, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event, Reader

KEEPALIVE_SECONDS = 15.0
DNS_SECONDS = 60
EVENT_STREAM = "text/event-stream"
MAX_ANSWER = 32 * 1024 * 1024
"""Bytes of one decoded answer."""
MAX_ANSWERS = 64 * 1024 * 1024
"""Bytes of all answers that are read at the same time: one request may have a hundred."""
MAX_STREAM = 32 * 1024 * 1024
"""Bytes of a decoded stream, in which each token has a JSON object of its own."""


class CompletionClient:
    """A session with as many connections as there are calls, opened at the first use in the running event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allowance = response_body.ByteBudget(MAX_ANSWERS)

    async def close(self) -> None:
        """Close the pool, if it belongs to the running loop. The next call opens a new one."""
        if self._session is not None and self._loop is asyncio.get_running_loop():
            session, self._session = self._session, None
            await session.close()

    async def post(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> dict[str, Any]:
        """POST a JSON body, given as an object or as bytes. Returns the answer's JSON object."""
        with _provider_errors(call):
            async with self._request(call, body) as response:
                await _require_success(response, call)
                content = await self._read(response)
        answer = read_object(content)
        if answer is None:
            raise ProviderUnclear("an answer that is not a JSON object", status=response.status)
        if is_error(answer):
            raise failure_within(answer, call)
        return answer

    async def events(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> AsyncGenerator[Event, None]:
        """POST a body and read the server-sent events of the answer, until the connection ends."""
        reader = Reader()
        async with contextlib.aclosing(self.chunks(call, body, EVENT_STREAM)) as chunks:
            async for chunk in chunks:
                for event in _read(reader, chunk):
                    yield event

    async def chunks(
        self, call: HttpCall, body: Mapping[str, Any] | bytes, content_type: str
    ) -> AsyncGenerator[bytes, None]:
        """POST a body and read the bytes of the answer, as they arrive. Another content type is `ProviderUnclear`."""
        with _provider_errors(call):
            async with self._request(call, body) as response:
                await _require_success(response, call)
                if response.content_type != content_type:
                    what = f"a content type that is not {content_type}"
                    raise ProviderUnclear(what, raw_detail=response.content_type)
                async for piece in _pieces(response, MAX_STREAM):
                    yield piece

    def _request(
        self, call: HttpCall, body: Mapping[str, Any] | bytes
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The answer. Its connection is reused if the body is read to its end, else closed."""
        content = body if isinstance(body, bytes) else _encoded(body)
        call = call.signed(content)
        return self._open().post(
            # aiohttp would encode the path in its own way, and the signature would no longer fit.
            call.address if call.sign is None else URL(call.address, encoded=True),
            data=content,
            headers={"Content-Type": "application/json", **call.headers},
            timeout=aiohttp.ClientTimeout(total=call.timeout, connect=call.connect_timeout),
            allow_redirects=False,
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The decoded body."""
        if response.content.is_eof() and not _encoding(response):  # all of it came with the headers
            return response.content.read_nowait()
        return await response_body.read_all(_pieces(response, MAX_ANSWER), self._allowance)

    def _open(self) -> aiohttp.ClientSession:
        """The session of the running loop. A session of an ended loop can be neither used nor closed."""
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


async def _require_success(response: aiohttp.ClientResponse, call: HttpCall) -> None:
    if not 200 <= response.status < 300:
        content = await response_body.read_error(_raw(response), _encoding(response))
        raise failure(response.status, response.headers, content, call)


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson reads 1,024 levels, and writes 254
        raise InvalidRequest("The request is nested too deep.", code="invalid_value") from error


@contextlib.contextmanager
def _provider_errors(call: HttpCall) -> Iterator[None]:
    """Turn aiohttp's errors into ours: `ProviderRefused` if no request was sent, else `ProviderUnclear`."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise ProviderRefused(f"no connection to {call.host} in {call.connect_timeout:.1f} s", code=TIMEOUT) from error
    except aiohttp.ClientConnectorError as error:
        raise ProviderRefused(call.scrub(f"no connection to {call.host}: {type(error).__name__}")) from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise ProviderRefused(f"not a valid URL: check api_base ({call.host})", lasting=True) from error
    except ValueError as error:
        # aiohttp raises it for a header with a line break. Its message may quote the key.
        raise ProviderRefused("not a valid request: check the API key for stray characters", lasting=True) from error
    except TimeoutError as error:
        raise ProviderUnclear(f"no answer from {call.host} in {call.timeout:.1f} s", code=TIMEOUT) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ProviderUnclear(f"no answer from {call.host}: {type(error).__name__}") from error


def _read(reader: Reader, chunk: bytes) -> list[Event]:
    """The events that have data. Empty ones only keep the connection alive."""
    try:
        return [event for event in reader.feed(chunk) if event.data.strip()]
    except ValueError as error:
        raise ProviderUnclear(str(error)) from error


def _pieces(response: aiohttp.ClientResponse, max_bytes: int) -> AsyncIterator[bytes]:
    return response_body.decoded(_raw(response), _encoding(response), max_bytes)


def _raw(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    return response.content.iter_any()


def _encoding(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("content-encoding", "")
