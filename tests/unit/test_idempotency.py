"""Which attempts at a create are the same create."""

import pytest

from manifold.access import Caller
from manifold.errors import InvalidRequest
from manifold.idempotency import KEY_SECONDS, RETRY_SECONDS, attempt

CALLER = Caller(key_id="key_1")
ROUTE = "POST /files"


@pytest.mark.parametrize("headers", [{}, {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": ""}])
def test_a_first_attempt_looks_for_no_earlier_one(headers: dict[str, str]) -> None:
    assert attempt(CALLER, ROUTE, b"body", headers).window == 0


def test_a_retry_looks_for_the_first_attempt_of_the_same_body() -> None:
    first = attempt(CALLER, ROUTE, b"body", {"x-stainless-retry-count": "0"})
    retry = attempt(CALLER, ROUTE, b"body", {"x-stainless-retry-count": "1"})

    assert retry.fingerprint == first.fingerprint
    assert retry.window == RETRY_SECONDS


def test_the_clients_key_makes_attempts_the_same_whatever_the_body() -> None:
    headers = {"idempotency-key": "mine"}
    one, other = attempt(CALLER, ROUTE, b"one", headers), attempt(CALLER, ROUTE, b"other", headers)

    assert one.fingerprint == other.fingerprint
    assert one.window == KEY_SECONDS
    with pytest.raises(InvalidRequest):
        other.require_body(one.body_hash)
    one.require_body(one.body_hash)


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "mine"}])
def test_another_key_or_route_is_another_create(headers: dict[str, str]) -> None:
    fingerprints = {
        attempt(CALLER, ROUTE, b"body", headers).fingerprint,
        attempt(Caller(key_id="key_2"), ROUTE, b"body", headers).fingerprint,
        attempt(Caller(admin=True), ROUTE, b"body", headers).fingerprint,
        attempt(CALLER, "POST /batches", b"body", headers).fingerprint,
    }
    assert len(fingerprints) == 4
