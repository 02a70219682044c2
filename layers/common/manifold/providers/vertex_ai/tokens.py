"""Access tokens for Google's APIs, by `google-auth`: of a service account's key, or of an AWS role that Google trusts.

The only module that imports google-auth, and only when a token is needed. The library makes its requests within a
thread; they go through `BatchClient`. See docs/decisions/0030-google-tokens.md.

https://google.aip.dev/auth/4112, https://google.aip.dev/auth/4117
"""

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manifold.errors import ProviderError, ProviderRefused
from manifold.providers.batch_client import BatchClient
from manifold.providers.failures import read_object
from manifold.providers.http_call import HttpCall

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
SECONDS = 15.0
"""Time limit of one request for a token; a token takes one to three."""
LASTING = frozenset(
    {
        "access_denied", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target",
        "unauthorized_client",
    }
)  # fmt: skip
"""The errors of OAuth (RFC 6749 §5.2, RFC 8693 §2.2.2) that the same credentials will get again."""
DENIED = 403
"""The status of IAM's answer if the service account may not be impersonated."""
AWS = "urn:ietf:params:aws:token-type:aws4_request"
_THREADS = ThreadPoolExecutor(4, "google-tokens")
"""Of its own, as resolvers of names use asyncio's: a token that waits for those must not hold them up."""


class Tokens:
    """The access tokens, kept by their credentials until shortly before they expire."""

    def __init__(self, client: BatchClient) -> None:
        self._client = client
        self._grants: dict[str, _Grant] = {}

    async def get(self, credentials: str) -> str:
        """The token of these credentials, a JSON text. `ProviderRefused` if there is none, whatever the cause."""
        grant = self._grants.get(credentials)
        if grant is not None and (token := grant.token) is not None:
            return token
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_THREADS, self._refreshed, credentials, loop)

    def forget(self, credentials: str) -> None:
        """Ask for another token the next time: Google's API did not accept this one."""
        self._grants.pop(credentials, None)

    def _refreshed(self, credentials: str, loop: asyncio.AbstractEventLoop) -> str:
        grant = self._grants.get(credentials)
        if grant is None:
            grant = self._grants.setdefault(credentials, _Grant(credentials))
        return grant.refreshed(_Transport(self._client, loop))


class _Grant:
    """The credentials as google-auth knows them, with their token."""

    def __init__(self, credentials: str) -> None:
        self._google = _parsed(credentials)
        self._lock = threading.Lock()

    @property
    def token(self) -> str | None:
        """The token, if it is valid for the next minutes."""
        return self._google.token if self._google.valid else None

    def refreshed(self, transport: "_Transport") -> str:
        from google.auth.exceptions import GoogleAuthError

        with self._lock:
            if not self._google.valid:
                try:
                    self._google.refresh(transport)
                except ProviderError as error:
                    raise _refusal(error) from error
                except (GoogleAuthError, TimeoutError, LookupError, TypeError, ValueError, OverflowError) as error:
                    raise ProviderRefused(f"no access token from Google: {type(error).__name__}") from error
            token = self._google.token
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ProviderRefused("no access token from Google: it is no text")
        return token


@dataclass(frozen=True, slots=True)
class _Answer:
    """`google.auth.transport.Response`."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class _Transport:
    """`google.auth.transport.Request`: sends from a thread, by the client in the event loop.

    An answer that is no success is raised, so that the library does not try again by itself.
    """

    client: BatchClient
    loop: asyncio.AbstractEventLoop

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Answer:
        call = HttpCall(url, dict(headers or {}), {}, SECONDS)
        return asyncio.run_coroutine_threadsafe(self._send(method, call, body or b""), self.loop).result(2 * SECONDS)

    async def _send(self, method: str, call: HttpCall, body: bytes) -> _Answer:
        try:
            async with asyncio.timeout(SECONDS):
                answer = await self.client.send(method, call, body)
        except TimeoutError as error:
            raise ProviderRefused(f"no answer from {call.host}") from error
        return _Answer(answer.status, answer.headers, answer.body)


def _parsed(text: str) -> "Credentials":
    """The credentials of a JSON text. No error quotes them."""
    from google.auth import aws
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    found: Credentials | None = None
    try:
        info = read_object(text.encode()) or {}
        if info.get("type") == "service_account":
            found = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
        elif info.get("type") == "external_account" and info.get("subject_token_type") == AWS:
            found = aws.Credentials.from_info(info, scopes=SCOPES)
    except (GoogleAuthError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise _unusable(f"vertex_credentials are not usable: {type(error).__name__}") from None
    if found is None:
        raise _unusable("vertex_credentials are no service account's key or AWS external account")
    return found


def _refusal(error: ProviderError) -> ProviderRefused:
    """Why there is no token. No call had an effect: what is unclear here is none the less a refusal of the job's."""
    said = error.raw_detail or ""
    if said in LASTING or error.status == DENIED:
        cause = said if said in LASTING else "impersonation denied"
        return _unusable(f"Google refused the credentials: {cause}")
    return ProviderRefused(f"no access token from Google: {error.message}", retry_after=error.retry_after)


def _unusable(message: str) -> ProviderRefused:
    """A refusal for good, as of a wrong key: it has the secret fetched again."""
    return ProviderRefused(message, status=401, code="invalid_api_key", lasting=True)
