"""Signed URLs of objects, as at Google Cloud Storage and at S3: the only credential of who puts or gets one.

https://cloud.google.com/storage/docs/access-control/signed-urls: a URL is for one method, one object and a while, and
for requests that send the headers which its `X-Goog-SignedHeaders` names. `native.signed_objects` has the routes.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import BaseModel, ConfigDict

from local.provider.clock import Clock
from local.provider.refusal import Refusal

HEADER = "header-"
"""What is before a signed header's name in the query, which has its value."""


class Storage(BaseModel):
    """Where signed URLs lead."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str | None = None
    """`http://localhost:4010` is another origin than `http://127.0.0.1:4010`, and the same program. `None`: that of the
    call which asked for the URL."""
    redirects: int = 0
    """How often a URL is answered with a 307 to another one before it is served."""
    seconds: float = 600.0
    """How long a URL is valid."""


class Place(NamedTuple):
    """An object, and what may be done with it."""

    method: str
    account: str
    bucket: str
    key: str


class Permission(NamedTuple):
    """What a signed URL says beside its place."""

    redirects: int
    """How many are left."""
    headers: Mapping[str, str]
    """The headers that the request must have."""


class SignedUrls:
    """Signs URLs, and checks them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self.storage = Storage()

    def url(self, place: Place, origin: str, headers: Mapping[str, str] | None = None) -> str:
        """`origin` is that of the call which asks for it."""
        permission = Permission(self.storage.redirects, headers or {})
        return self._signed(place, self.storage.origin or origin, permission)

    def next_url(self, place: Place, origin: str, permission: Permission) -> str:
        """The URL that one with redirects leads to."""
        return self._signed(place, origin, permission._replace(redirects=permission.redirects - 1))

    def check(self, place: Place, query: str) -> Permission:
        """Raises a `Refusal` for a URL that was not signed, or is no longer valid."""
        given = dict(parse_qsl(query))
        if not hmac.compare_digest(given.pop("X-Goog-Signature", ""), self._signature(place, given)):
            raise Refusal(403, "SignatureDoesNotMatch", "Access denied.")
        if float(given["X-Goog-Expires-At"]) <= self._clock.now():
            raise Refusal(400, "ExpiredToken", "The provided token has expired.")
        headers = {name.removeprefix(HEADER): value for name, value in given.items() if name.startswith(HEADER)}
        return Permission(int(given["X-Redirects"]), headers)

    def clear(self) -> None:
        self.storage = Storage()

    def _signed(self, place: Place, origin: str, permission: Permission) -> str:
        given = {
            "X-Goog-Expires-At": str(self._clock.now() + self.storage.seconds),
            "X-Goog-SignedHeaders": ";".join(sorted({"host", *permission.headers})),
            "X-Redirects": str(permission.redirects),
            **{f"{HEADER}{name}": value for name, value in permission.headers.items()},
        }
        query = urlencode(given | {"X-Goog-Signature": self._signature(place, given)})
        return f"{origin}/accounts/{place.account}/signed/objects/{place.bucket}/{quote(place.key)}?{query}"

    def _signature(self, place: Place, given: Mapping[str, str]) -> str:
        signed = "\n".join((*place, urlencode(sorted(given.items()))))
        return hmac.new(self._secret, signed.encode(), hashlib.sha256).hexdigest()
