"""Recognizes repeated attempts at one create. Pure; `manifold.store.idempotency` keeps the attempts.

A client may send an `Idempotency-Key`. OpenAI's SDK sends none; it repeats a POST that failed, and counts the attempts
in `x-stainless-retry-count`. So a retry with the same virtual key and body, within minutes, stands for the first
attempt. An identical create that is no retry makes another object.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from manifold.access import Caller
from manifold.errors import InvalidRequest

KEY_SECONDS = 86_400
"""Seconds for which an `Idempotency-Key` is remembered."""
RETRY_SECONDS = 600
"""Seconds within which an SDK's retry stands for the first attempt; its retries are seconds apart."""


@dataclass(frozen=True, slots=True)
class CreateAttempt:
    """One attempt at a create: what tells whether it repeats another."""

    fingerprint: str
    """A hash of caller, route, and the client's `Idempotency-Key` or else the body: equal for repeated attempts."""
    body_hash: str
    window: int
    """Seconds for which an earlier attempt counts; 0: none does."""

    def require_body(self, body_hash: str) -> None:
        """Raise `InvalidRequest` if the earlier attempt with this fingerprint had another body."""
        if body_hash != self.body_hash:
            raise InvalidRequest(
                "This Idempotency-Key was used with another request. Send a new key with a new request.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )


def attempt(caller: Caller, route: str, body: bytes, headers: Mapping[str, str]) -> CreateAttempt:
    """The attempt of this request: `route` such as `POST /batches`, `body` all that identical creates share."""
    body_hash = hashlib.sha256(body).hexdigest()
    who = (caller.key_id or "admin", route)
    key = headers.get("idempotency-key")
    if key:
        return CreateAttempt(_digest(*who, "key", key), body_hash, KEY_SECONDS)
    return CreateAttempt(_digest(*who, "body", body_hash), body_hash, RETRY_SECONDS if is_retry(headers) else 0)


def is_retry(headers: Mapping[str, str]) -> bool:
    """Whether an SDK sends the request again, by its header `x-stainless-retry-count`."""
    return headers.get("x-stainless-retry-count", "0") not in ("", "0")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
