"""HTTP for files and batches: the only module that imports httpx. `completion_client` is the one for completions.

A request returns its answer, or raises `ProviderRefused` (it had no effect) or `ProviderUnclear` (it may have had its
effect). No error message holds a credential. Nothing is retried, and credentials are not sent on a redirect to another
origin.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

import httpx
import orjson

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.ip_addresses import Resolve, system
from manifold.providers import Input, redirects, response_body
from manifold.providers.content import Content
from manifold.providers.download import Download
from manifold.providers.failures import failure, read_json, read_object
from manifold.providers.http_call import CONNECT_SECONDS, HttpCall
from manifold.providers.multipart import Multipart

TRANSFER_READ_SECONDS = 300.0
"""Seconds that a provider may take to answer an upload, or pause within a download."""
TRANSFER_WRITE_SECONDS = 60.0
TRANSFER_SECONDS = 840.0
"""Seconds for a file from start to end: the worker has 900."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of a decoded answer that is no file. Its Python objects may take 24 times that, of 512 MiB."""
MAX_ANSWERS = 64 * 1024 * 1024
"""Bytes of all such answers that are read at the same time."""
MAX_DOWNLOAD = 4 * 1024 * 1024 * 1024
"""Bytes of a decoded file. 50,000 lines of 80 KB are fewer."""
MAX_REDIRECTS = 3
_LIMITS = httpx.Limits(max_connections=500, max_keepalive_connections=100)
"""Enough for a poll of 60 deployments, each with eight calls at once: those that hang must not use up the pool. Lambda
allows 1,024 open files."""


class Answer(NamedTuple):
    """An answer that is read whole."""

    status: int
    headers: Mapping[str, str]
    """The names are looked up in any case."""
    body: bytes


class _Target(TypedDict):
    """The arguments of a request that follows a redirect."""

    url: httpx.URL
    headers: Mapping[str, str]
    extensions: dict[str, Any]


class BatchClient:
    """A client with a connection pool, opened at the first use in the running event loop. `close` closes it."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, resolve: Resolve = system) -> None:
        self._transport = transport
        self._resolve = resolve
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allowance = response_body.ByteBudget(MAX_ANSWERS)

    async def close(self) -> None:
        """Close the pool, if it belongs to the running loop. The next call opens a new one."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            client, self._client = self._client, None
            await client.aclose()

    async def call(
        self, method: str, call: HttpCall, json: Mapping[str, Any] | None = None, *, max_bytes: int = MAX_ANSWER
    ) -> dict[str, Any]:
        """Send a request that moves no file. Returns the answer's JSON object, of `max_bytes` at most."""
        return _object(await self._request(method, call, json, max_bytes))

    async def items(self, call: HttpCall) -> list[Any]:
        """GET a listing that is a JSON array."""
        answer = await self._request("GET", call, None, MAX_ANSWER)
        body = read_json(answer.body)
        if not isinstance(body, list):
            raise ProviderUnclear("an answer that is not a JSON array", status=answer.status)
        return body

    async def send(
        self,
        method: str,
        call: HttpCall,
        content: Content | bytes = b"",
        *,
        given_by: HttpCall | None = None,
        redirects_to: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send bytes, streamed if they are `Content`. Returns the answer, of `MAX_ANSWER` bytes at most.

        Redirects are not followed; those statuses in `redirects_to` are an answer like a success. Of a call whose URL
        the provider gave, `given_by` is the one that it answered: the URL may lead only where its redirects may.
        `Content` has as long as `upload`, anything else the call's timeout.
        """
        length = content.size if isinstance(content, Content) else len(content)
        call = call.signed(None if isinstance(content, Content) else content, method)
        headers = {**call.headers, "Content-Length": str(length)}
        if isinstance(content, Content):
            headers.setdefault("Content-Type", content.type)
            timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS, write=TRANSFER_WRITE_SECONDS)
        else:
            timeout = httpx.Timeout(call.timeout, connect=call.connect_timeout, pool=call.connect_timeout)
        with _provider_errors(call):
            target = await self._given(httpx.URL(call.address), headers, given_by)
            body = content.exact() if isinstance(content, Content) else content
            request = self._open().build_request(method, **target, content=body, timeout=timeout)
            async with asyncio.timeout(TRANSFER_SECONDS if isinstance(content, Content) else call.timeout):
                return await self._answer(request, call, MAX_ANSWER, redirects_to)

    async def upload(
        self, call: HttpCall, fields: Mapping[str, str], data: Input, *, file: str = "file"
    ) -> dict[str, Any]:
        """POST a form with `data` as the field that `file` names, streamed. Returns the answer's JSON object."""
        form = Multipart(fields, data, file)
        headers = {**call.headers, **form.headers}
        timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS, write=TRANSFER_WRITE_SECONDS)
        with _provider_errors(call):
            request = self._open().build_request(
                "POST", call.url, headers=headers, params=_params(call), content=form.stream(), timeout=timeout
            )
            async with asyncio.timeout(TRANSFER_SECONDS):
                return _object(await self._answer(request, call, MAX_ANSWER))

    async def download(self, call: HttpCall, *, given_by: HttpCall | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of a GET, as they arrive. `given_by` is as for `send`.

        A download that breaks off is continued by a range request, as long as each brings more bytes. If one does not,
        or the server gives no ranges, it is `ProviderUnclear`: a file is never silently short.
        """
        download, end = Download(), asyncio.get_running_loop().time() + TRANSFER_SECONDS
        with _provider_errors(call):
            while not download.whole:
                try:
                    async with contextlib.aclosing(self._rest(call, download, end, given_by)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                except httpx.TransportError:
                    if not download.can_resume:
                        raise

    async def _rest(
        self, call: HttpCall, download: Download, end: float, given_by: HttpCall | None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of one answer: of the whole file, or of the rest of it."""
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(TRANSFER_READ_SECONDS):
                response = await self._follow(call, download.request_headers(), stack, given_by)
                if not download.starts(response.status_code, response.headers):
                    if download.whole:
                        return
                    raise await _failure(response, call)
            raw = response_body.paced(_raw(response), end - asyncio.get_running_loop().time())
            async for piece in response_body.decoded(raw, _encoding(response), MAX_DOWNLOAD - download.received):
                download.receive(piece)
                yield piece
            download.finish()

    async def _follow(
        self,
        call: HttpCall,
        more: Mapping[str, str],
        stack: contextlib.AsyncExitStack,
        given_by: HttpCall | None,
    ) -> httpx.Response:
        """GET, and follow redirects. Another origin, such as an object store, gets only the headers of `more`."""
        client, base = self._open(), given_by or call
        call = call.signed(b"", "GET")
        timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS)
        url = httpx.URL(call.address)
        request = client.build_request("GET", **await self._given(url, call.headers, given_by), timeout=timeout)
        request.headers.update(more)
        for _ in range(MAX_REDIRECTS + 1):
            response = await stack.enter_async_context(contextlib.aclosing(await client.send(request, stream=True)))
            if not response.has_redirect_location:
                break
            url = url.join(response.headers["location"])
            request = client.build_request("GET", **await self._redirected(url, base), timeout=timeout)
            request.headers.update(more)
        return response

    async def _given(self, url: httpx.URL, headers: Mapping[str, str], given_by: HttpCall | None) -> _Target:
        """A request to our own URL, or to one that the provider gave."""
        if given_by is None or _origin(httpx.URL(given_by.url)) == _origin(url):
            return {"url": url, "headers": headers, "extensions": {}}
        target = await self._redirected(url, given_by)
        return {**target, "headers": {**headers, **target["headers"]}}

    async def _redirected(self, url: httpx.URL, call: HttpCall) -> _Target:
        """The next request of a redirect. To another origin it goes to the IP address that was checked, on a connection
        of its own: the pool knows connections by address, not by the name that their certificate is for."""
        here, there = _origin(httpx.URL(call.url)), _origin(url)
        if there == here:
            return {"url": url, "headers": call.headers, "extensions": {}}
        address = await redirects.checked(there, here, self._resolve)
        headers = {"Host": url.netloc.decode(), "Connection": "close"}
        return {"url": url.copy_with(host=address), "headers": headers, "extensions": {"sni_hostname": there.host}}

    def _open(self) -> httpx.AsyncClient:
        """The client of the running loop. A client of an ended loop can be neither used nor closed."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            headers = {"Accept-Encoding": response_body.ACCEPT_ENCODING}
            client = httpx.AsyncClient(transport=self._transport, headers=headers, limits=_LIMITS)
            self._client, self._loop = client, loop
        return self._client

    async def _request(self, method: str, call: HttpCall, json: Mapping[str, Any] | None, max_bytes: int) -> Answer:
        content = b"" if json is None else orjson.dumps(json)
        call = call.signed(content, method)
        timeout = httpx.Timeout(call.timeout, connect=call.connect_timeout, pool=call.connect_timeout)
        headers = call.headers if json is None else {"Content-Type": "application/json", **call.headers}
        with _provider_errors(call):
            request = self._open().build_request(
                method, call.url, headers=headers, params=_params(call), content=content, timeout=timeout
            )
            async with asyncio.timeout(call.timeout):
                return await self._answer(request, call, max_bytes)

    async def _answer(
        self, request: httpx.Request, call: HttpCall, max_bytes: int, redirects_to: frozenset[int] = frozenset()
    ) -> Answer:
        async with contextlib.aclosing(await self._open().send(request, stream=True)) as response:
            if not response.is_success and response.status_code not in redirects_to:
                raise await _failure(response, call)
            pieces = response_body.decoded(_raw(response), _encoding(response), max_bytes)
            body = await response_body.read_all(pieces, self._allowance)
            return Answer(response.status_code, response.headers, body)


def _object(answer: Answer) -> dict[str, Any]:
    body = read_object(answer.body)
    if body is None:
        raise ProviderUnclear("an answer that is not a JSON object", status=answer.status)
    return body


def _params(call: HttpCall) -> Mapping[str, str] | None:
    # An empty mapping would strip the query that the URL itself may have.
    return call.params or None


def _origin(url: httpx.URL) -> redirects.Origin:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return redirects.Origin(url.scheme, url.raw_host.decode(), port)


@contextlib.contextmanager
def _provider_errors(call: HttpCall) -> Iterator[None]:
    """Turn httpx's errors into ours: `ProviderRefused` if no request was sent, else `ProviderUnclear`."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        raise ProviderRefused(call.scrub(f"no connection to {call.host}: {error}")) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise ProviderRefused(f"not a valid URL: check api_base ({call.host})", lasting=True) from error
    except httpx.LocalProtocolError as error:
        # Its text quotes the header at fault, which may be the key.
        raise ProviderRefused("not a valid request: check the API key for stray characters", lasting=True) from error
    except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
        raise ProviderUnclear(f"no answer from {call.host}: {type(error).__name__}") from error


async def _failure(response: httpx.Response, call: HttpCall) -> ProviderError:
    content = await response_body.read_error(_raw(response), _encoding(response))
    return failure(response.status_code, response.headers, content, call)


async def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as received. httpx's own iterators would decode it, or keep it in memory."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 (an AsyncClient's)
    async for data in response.stream:
        yield data


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("content-encoding", ""))
