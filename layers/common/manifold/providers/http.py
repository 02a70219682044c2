"""HTTP as the adapters need it: the only module that knows which client library speaks it.

Every outcome is a value, a `ProviderRefused` (a definite no: nothing happened) or a `ProviderUnclear` (it may have
happened). No message that leaves here holds a credential. Nothing is retried, and credentials follow no redirect to
another origin.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import Input
from manifold.providers.multipart import Multipart

CONNECT_SECONDS = 10.0
TRANSFER_READ_SECONDS = 300.0
"""How long a provider may think over a file that it has received, or pause within one that it sends."""
TRANSFER_WRITE_SECONDS = 60.0
MAX_REDIRECTS = 3
MAX_MESSAGE = 500

# A 4xx that says "not now" or "not decided", where all others say "never".
PASSING = frozenset({409, 423, 425, 429})
UNDECIDED = frozenset({408, 499})
PASSING_CODES = frozenset({"token_limit_exceeded", "quotaExceeded", "tooManyRequests", "unexpectedEntityState"})


class Rejected(ProviderRefused):
    """A refusal by answer. `code` is the provider's own word, `None` where the answer has no API's error shape."""

    def __init__(
        self, message: str, *, status: int, retry_after: float | None, lasting: bool, code: str | None
    ) -> None:
        super().__init__(message, status=status, retry_after=retry_after, lasting=lasting)
        self.code = code


@dataclass(frozen=True, slots=True)
class Call:
    """Where a call goes and in whose name."""

    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    timeout: float
    """Seconds from start to end, for a call that moves no file."""

    def scrub(self, text: str) -> str:
        """`text` without our credentials, and of a bounded length."""
        for value in self.headers.values():
            text = text.replace(value.removeprefix("Bearer "), "***")
        return text[:MAX_MESSAGE]


class Http:
    """One pooled client, opened at its first use within the running event loop; `close` ends it."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def call(self, method: str, call: Call, json: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request that moves no file, and return the JSON object that answers it."""
        timeout = httpx.Timeout(call.timeout, connect=_connect(call.timeout), pool=_connect(call.timeout))
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
                    raise _failure(response, call)
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


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, in either of its forms (RFC 9110 §10.2.3), or `None`."""
    value = headers.get("retry-after", "").strip()
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    with contextlib.suppress(ValueError):
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return None


def _connect(timeout: float) -> float:
    """Shorter than the whole, so that a connection that never opened is told from an answer that never came."""
    return min(CONNECT_SECONDS, timeout / 2)


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
        raise ProviderRefused(call.scrub(f"no connection to {_host(call)}: {error}")) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise ProviderRefused(f"not a URL that can be called: check api_base ({_host(call)})", lasting=True) from error
    except httpx.LocalProtocolError as error:
        # Its text quotes the header at fault, which may be the key.
        raise ProviderRefused("no valid request: check the API key for stray characters", lasting=True) from error
    except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
        raise ProviderUnclear(f"no answer from {_host(call)}: {type(error).__name__}") from error


def _host(call: Call) -> str:
    with contextlib.suppress(httpx.InvalidURL):
        return httpx.URL(call.url).host or "an address without a host"
    return "an address that cannot be read"


def _answer(response: httpx.Response, call: Call) -> dict[str, Any]:
    if not response.is_success:
        raise _failure(response, call)
    body = _json(response)
    if body is None:
        raise ProviderUnclear("an answer that is no JSON object", status=response.status_code)
    return body


def _failure(response: httpx.Response, call: Call) -> ProviderRefused | ProviderUnclear:
    status, wait = response.status_code, retry_after(response.headers)
    message, code = _worded(response)
    message = call.scrub(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in UNDECIDED:
        return ProviderUnclear(message, status=status, retry_after=wait)
    lasting = status not in PASSING and code not in PASSING_CODES
    return Rejected(message, status=status, retry_after=wait, lasting=lasting, code=code)


def _worded(response: httpx.Response) -> tuple[str, str | None]:
    """The provider's own message and code, where the answer has an API's error shape."""
    plain = f"HTTP {response.status_code}"
    body = _json(response)
    error = body.get("error") if body else None
    if isinstance(error, str):
        return f"{plain}: {error}", ""
    if not isinstance(error, dict):
        return plain, None
    return f"{plain}: {error.get('message') or 'no message'}", str(error.get("code") or error.get("type") or "")


def _json(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
