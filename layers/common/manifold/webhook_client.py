"""Webhooks' HTTP: signs an event and posts it to a stranger's endpoint. https://www.standardwebhooks.com

The URL comes from a client and is not trusted: the host is resolved at each attempt, only a public address is connected
to, no redirect is followed, no proxy is used, and no byte of the answer's body is read.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from functools import cached_property
from typing import NamedTuple

import httpx
from standardwebhooks import Webhook

from manifold.ip_addresses import Resolve, addresses_of, kind_of, may_receive_events, resolver
from manifold.signed_event import NotAnswered, SignedEvent

ATTEMPT_SECONDS = 15.0
"""Time for one attempt, from the look-up of the host to the status of the answer."""
LOOK_UPS = 40
"""Hosts that are looked up at once. A name server that hangs holds one for longer than its attempt."""
_SECONDS = re.compile(r"[0-9]{1,9}")
_PORTS = {"https": 443, "http": 80}


class Answer(NamedTuple):
    """What an endpoint answered."""

    status: int
    retry_after: float | None = None
    """Seconds until it wants to be asked again, if it said so in seconds."""


class WebhookClient:
    """Posts events. With `private`, plain HTTP and private or loopback addresses are allowed, too."""

    def __init__(self, *, private: bool = False, resolve: Resolve | None = None) -> None:
        self._private = private
        self._resolve = resolve or resolver(ThreadPoolExecutor(LOOK_UPS))

    async def post(self, url: str, secret: str, event: SignedEvent) -> Answer:
        """The endpoint's answer, whatever it is. Raises `NotAnswered`."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                return await self._post(httpx.URL(url), secret, event)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise NotAnswered(f"The endpoint did not answer within {ATTEMPT_SECONDS:g} seconds.") from error
        except httpx.ConnectError as error:
            raise NotAnswered(_of_connection(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotAnswered(f"The endpoint gave no answer in HTTP ({type(error).__name__}).") from error

    async def _post(self, url: httpx.URL, secret: str, event: SignedEvent) -> Answer:
        address = await self._address(url)
        request = httpx.Request(
            "POST",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode(), "Connection": "close", **_headers(secret, event)},
            content=event.body.encode(),
            extensions={"sni_hostname": url.raw_host.decode(), "timeout": httpx.Timeout(ATTEMPT_SECONDS).as_dict()},
        )
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            await response.aclose()
        retry_after = response.headers.get("retry-after", "")
        return Answer(response.status_code, float(retry_after) if _SECONDS.fullmatch(retry_after) else None)

    async def _address(self, url: httpx.URL) -> str:
        """The address to connect to: the connection goes there, whatever the name resolves to a moment later."""
        if url.scheme != "https" and not (self._private and url.scheme == "http"):
            raise NotAnswered("The URL is not https.")
        host, port = url.raw_host.decode(), url.port or _PORTS[url.scheme]
        try:
            addresses = await addresses_of(host, port, self._resolve)
        except (OSError, UnicodeError) as error:
            raise NotAnswered("The host has no address.") from error
        for address in addresses:
            if may_receive_events(kind_of(address), private=self._private):
                return str(address)
        raise NotAnswered("The host has no public address.")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=False)


def _headers(secret: str, event: SignedEvent) -> Mapping[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "Manifold",
        "webhook-id": event.id,
        "webhook-timestamp": str(int(event.sent_at.timestamp())),
        "webhook-signature": Webhook(secret).sign(
            event.id, event.sent_at.astimezone(UTC), event.body
        ),  # it takes a time as UTC
    }


def _of_connection(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "The connection was not secure: check the endpoint's certificate."
        cause = cause.__cause__ or cause.__context__
    return "There was no connection to the endpoint."
