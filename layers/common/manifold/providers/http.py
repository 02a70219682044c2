"""HTTP for files and batches: the only module that knows httpx. Completions have their own (`client`).

Every outcome is a value, a `ProviderRefused` (a definite no: nothing happened) or a `ProviderUnclear` (it may have
happened). No message that leaves here holds a credential. Nothing is retried, and credentials follow no redirect to
another origin.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import Input
from manifold.providers.call import CONNECT_SECONDS, Call
from manifold.providers.failures import failure, read_object
from manifold.providers.multipart import Multipart

TRANSFER_READ_SECONDS = 300.0
"""How long a provider may think over a file that it has received, or pause within one that it sends."""
TRANSFER_WRITE_SECONDS = 60.0
MAX_REDIRECTS = 3


class Http:
    """One pooled client, opened at its first use within the running event loop; `close` ends it."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Close the pooled connections, if they are of the running loop. The next call opens new ones."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            client, self._client = self._client, None
            await client.aclose()

    async def call(self, method: str, call: Call, json: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request that moves no file, and return the JSON object that answers it."""
        timeout = httpx.Timeout(call.timeout, connect=call.connect_timeout, pool=call.connect_timeout)
        with _translated(call):
            async with asyncio.timeout(call.timeout):
                response = await self._open().request(
                    method, call.url, headers=call.headers, params=_params(call), json=json, timeout=timeout
                )
        return _answer(response, call)

    async def upload(self, call: Call, fields: Mapping[str, str], data: Input) -> dict[str, Any]:
        """POST `data` as the form's `file`, streamed at its known length, and return the JSON object that answers."""
        form = Multipart(fields, data)
        headers = {**call.headers, **form.headers}
        timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS, write=TRANSFER_WRITE_SECONDS)
        with _translated(call):
            response = await self._open().post(
                call.url, headers=headers, params=_params(call), content=form.stream(), timeout=timeout
            )
        return _answer(response, call)

    async def download(self, call: Call) -> AsyncIterator[bytes]:
        """The bytes behind a GET, as they come. A cut within them is `ProviderUnclear`, never a short file."""
        with _translated(call):
            async with contextlib.AsyncExitStack() as stack:
                response = await self._follow(call, stack)
                if not response.is_success:
                    await response.aread()
                    raise failure(response.status_code, response.headers, response.content, call)
                async for chunk in response.aiter_bytes():
                    yield chunk

    async def _follow(self, call: Call, stack: contextlib.AsyncExitStack) -> httpx.Response:
        """GET, and the GETs it points to: a store of another origin gets none of our headers."""
        client = self._open()
        timeout = httpx.Timeout(TRANSFER_READ_SECONDS, connect=CONNECT_SECONDS)
        request = client.build_request("GET", call.url, headers=call.headers, params=_params(call), timeout=timeout)
        for _ in range(MAX_REDIRECTS + 1):
            response = await stack.enter_async_context(contextlib.aclosing(await client.send(request, stream=True)))
            if not response.has_redirect_location:
                break
            target = request.url.join(response.headers["location"])
            request = client.build_request("GET", target, headers=_headers_for(target, call), timeout=timeout)
        return response

    def _open(self) -> httpx.AsyncClient:
        """The client of the running loop. One of a loop that has ended cannot be used or closed any more."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = httpx.AsyncClient(transport=self._transport), loop
        return self._client


def _params(call: Call) -> Mapping[str, str] | None:
    # An empty mapping would strip the query that the URL itself may have.
    return call.params or None


def _headers_for(target: httpx.URL, call: Call) -> Mapping[str, str]:
    origin = httpx.URL(call.url)
    same = (target.scheme, target.host, target.port) == (origin.scheme, origin.host, origin.port)
    return call.headers if same else {}


@contextlib.contextmanager
def _translated(call: Call) -> Iterator[None]:
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


def _answer(response: httpx.Response, call: Call) -> dict[str, Any]:
    if not response.is_success:
        raise failure(response.status_code, response.headers, response.content, call)
    body = read_object(response.content)
    if body is None:
        raise ProviderUnclear("an answer that is no JSON object", status=response.status_code)
    return body
