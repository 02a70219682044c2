"""Which creates are one and the same: pure, the store remembers.

A client may send an `Idempotency-Key`. The OpenAI SDK sends none and repeats a POST that failed, but counts its
attempts in `x-stainless-retry-count`: a retry of an identical create by the same key, within minutes, means the first
attempt. An identical create that is no retry is meant as another one.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from manifold.access import Caller
from manifold.errors import InvalidRequest

KEY_SECONDS = 86_400
"""How long an `Idempotency-Key` is remembered."""
RETRY_SECONDS = 600
"""How long an SDK's retry can mean the first attempt; its retries are seconds apart."""


@dataclass(frozen=True, slots=True)
class CreateAttempt:
    """One attempt at a create, as far as telling it from others goes."""

    fingerprint: str
    """The same for attempts that may be one: caller, route, and the client's key or else the body."""
    body_hash: str
    window: int
    """How many seconds back an earlier attempt counts; 0 if none does."""

    def require_body(self, body_hash: str) -> None:
        """Raise `InvalidRequest` if an earlier attempt of this fingerprint had another body."""
        if body_hash != self.body_hash:
            raise InvalidRequest(
                "This Idempotency-Key was used with another request. Send a new key with a new request.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )


def attempt(caller: Caller, route: str, body: bytes, headers: Mapping[str, str]) -> CreateAttempt:
    """Describe an attempt: `route` such as `POST /batches`, `body` whatever makes two creates identical."""
    body_hash = hashlib.sha256(body).hexdigest()
    who = (caller.key_id or "admin", route)
    key = headers.get("idempotency-key")
    if key:
        return CreateAttempt(_digest(*who, "key", key), body_hash, KEY_SECONDS)
    return CreateAttempt(_digest(*who, "body", body_hash), body_hash, RETRY_SECONDS if is_retry(headers) else 0)


def is_retry(headers: Mapping[str, str]) -> bool:
    """Whether an SDK says that it sends this again."""
    return headers.get("x-stainless-retry-count", "0") not in ("", "0")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
