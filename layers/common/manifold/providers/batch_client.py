"""HTTP for files and batches: the only module that imports httpx. `completion_client` is the one for completions.

Every outcome is a value, a `ProviderRefused` (a definite no: nothing happened) or a `ProviderUnclear` (it may have
happened). No message that leaves here holds a credential. Nothing is retried, and credentials follow no redirect to
another origin.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, TypedDict

import httpx

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Input, redirects, response_body
from manifold.providers.download import Download
from manifold.providers.failures import failure, read_object
from manifold.providers.http_call import CONNECT_SECONDS, HttpCall
from manifold.providers.multipart import Multipart

TRANSFER_READ_SECONDS = 300.0
"""How long a provider may think over a file that it has received, or pause within one that it sends."""
TRANSFER_WRITE_SECONDS = 60.0
TRANSFER_SECONDS = 840.0
"""For a file from start to end: the worker has 900."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer that is no file, after decoding: its objects may take 24 times that, of 512 MiB."""
MAX_ANSWERS = 64 * 1024 * 1024
"""Bytes of all such answers that are read at once."""
MAX_DOWNLOAD = 4 * 1024 * 1024 * 1024
"""Bytes of a file, after decoding. 50,000 lines of 80 KB are less."""
MAX_REDIRECTS = 3


class _Target(TypedDict):
    """What a request is built of."""

    url: httpx.URL
    headers: Mapping[str, str]
    extensions: dict[str, Any]


class BatchClient:
    """One pooled client, opened at its first use within the running event loop; `close` ends it."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None = None, resolve: redirects.Resolve = redirects.system
    ) -> None:
        self._transport = transport
        self._resolve = resolve
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allowance = response_body.ByteBudget(MAX_ANSWERS)

    async def close(self) -> None:
        """Close the pooled connections, if they are of the running loop. The next call opens new ones."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            client, self._client = self._client, None
            await client.aclose()

    async def call(
        self, method: str, call: HttpCall, json: Mapping[str, Any] | None = None, *, most: int = MAX_ANSWER
    ) -> dict[str, Any]:
        """Send a request that moves no file, and return the JSON object that answers it, of `most` bytes at most."""
        timeout = httpx.Timeout(call.timeout, connect=call.connect_timeout, pool=call.connect_timeout)
        with _provider_errors(call):
            request = self._open().build_request(
                method, call.url, headers=call.headers, params=_params(call), json=json, timeout=timeout
            )
            async with asyncio.timeout(call.timeout):
                return await self._answer(request, call, most)

    async def upload(self, call: HttpCall, fields: Mapping[str, str], data: Input) -> dict[str, Any]:
        """POST `data` as the form's `file`, streamed at its known length, and return the JSON object that answers."""
        form = Multipart(fields, data)
        headers = {**call.headers, **form.headers}
        timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS, write=TRANSFER_WRITE_SECONDS)
        with _provider_errors(call):
            request = self._open().build_request(
                "POST", call.url, headers=headers, params=_params(call), content=form.stream(), timeout=timeout
            )
            async with asyncio.timeout(TRANSFER_SECONDS):
                return await self._answer(request, call, MAX_ANSWER)

    async def download(self, call: HttpCall) -> AsyncIterator[bytes]:
        """The bytes behind a GET, as they come. What breaks off is asked for from there, as long as that brings more;
        where it does not, or the server gives no ranges, it is `ProviderUnclear`, never a short file."""
        download, end = Download(), asyncio.get_running_loop().time() + TRANSFER_SECONDS
        with _provider_errors(call):
            while not download.whole:
                try:
                    async with contextlib.aclosing(self._rest(call, download, end)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                except httpx.TransportError:
                    if not download.goes_on:
                        raise

    async def _rest(self, call: HttpCall, download: Download, end: float) -> AsyncGenerator[bytes, None]:
        """The bytes of one answer: all, or those after the ones that came before."""
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(TRANSFER_READ_SECONDS):
                response = await self._follow(call, download.asks(), stack)
                if not download.begins(response.status_code, response.headers):
                    if download.whole:
                        return
                    raise await _failure(response, call)
            raw = response_body.paced(_raw(response), end - asyncio.get_running_loop().time())
            async for piece in response_body.decoded(raw, _encoding(response), MAX_DOWNLOAD - download.received):
                download.takes(piece)
                yield piece
            download.ends()

    async def _follow(
        self, call: HttpCall, more: Mapping[str, str], stack: contextlib.AsyncExitStack
    ) -> httpx.Response:
        """GET, and the GETs it points to: a store of another origin gets none of our headers but `more`."""
        client = self._open()
        timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS)
        request = client.build_request("GET", call.url, headers=call.headers, params=_params(call), timeout=timeout)
        request.headers.update(more)
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            response = await stack.enter_async_context(contextlib.aclosing(await client.send(request, stream=True)))
            if not response.has_redirect_location:
                break
            url = url.join(response.headers["location"])
            request = client.build_request("GET", **await self._towards(url, call), timeout=timeout)
            request.headers.update(more)
        return response

    async def _towards(self, url: httpx.URL, call: HttpCall) -> _Target:
        """Within the origin as before. Elsewhere to the address that was checked, by a connection of its own: the pool
        knows connections by address, and not for which name their certificate was."""
        here, there = _place(httpx.URL(call.url)), _place(url)
        if there == here:
            return {"url": url, "headers": call.headers, "extensions": {}}
        address = await redirects.checked(there, here, self._resolve)
        headers = {"Host": url.netloc.decode(), "Connection": "close"}
        return {"url": url.copy_with(host=address), "headers": headers, "extensions": {"sni_hostname": there.host}}

    def _open(self) -> httpx.AsyncClient:
        """The client of the running loop. One of a loop that has ended cannot be used or closed any more."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            headers = {"Accept-Encoding": response_body.ACCEPT_ENCODING}
            self._client, self._loop = httpx.AsyncClient(transport=self._transport, headers=headers), loop
        return self._client

    async def _answer(self, request: httpx.Request, call: HttpCall, most: int) -> dict[str, Any]:
        async with contextlib.aclosing(await self._open().send(request, stream=True)) as response:
            if not response.is_success:
                raise await _failure(response, call)
            pieces = response_body.decoded(_raw(response), _encoding(response), most)
            body = read_object(await response_body.read_all(pieces, self._allowance))
        if body is None:
            raise ProviderUnclear("an answer that is no JSON object", status=response.status_code)
        return body


def _params(call: HttpCall) -> Mapping[str, str] | None:
    # An empty mapping would strip the query that the URL itself may have.
    return call.params or None


def _place(url: httpx.URL) -> redirects.Place:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return redirects.Place(url.scheme, url.raw_host.decode(), port)


@contextlib.contextmanager
def _provider_errors(call: HttpCall) -> Iterator[None]:
    """Turn the client library's errors into ours: no request left, or nobody knows what became of it."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        raise ProviderRefused(call.scrub(f"no connection to {call.host}: {error}")) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise ProviderRefused(f"not a URL that can be called: check api_base ({call.host})", lasting=True) from error
    except httpx.LocalProtocolError as error:
        # Its text quotes the header at fault, which may be the key.
        raise ProviderRefused("no valid request: check the API key for stray characters", lasting=True) from error
    except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
        raise ProviderUnclear(f"no answer from {call.host}: {type(error).__name__}") from error


async def _failure(response: httpx.Response, call: HttpCall) -> ProviderError:
    content = await response_body.read_error(_raw(response), _encoding(response))
    return failure(response.status_code, response.headers, content, call)


async def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it came: httpx's own iterators would decode it, or keep it."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 (an AsyncClient's)
    async for data in response.stream:
        yield data


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("content-encoding", ""))
