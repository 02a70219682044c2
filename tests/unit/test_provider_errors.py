"""Whose fault a provider's failure is, and what its status and code become for a completion's client."""

import pytest

from manifold.errors import ANSWER_TOO_LARGE, TIMEOUT, ProviderRefused, ProviderUnclear
from manifold.provider_errors import Fault, client_error, fault_of, owner_message


@pytest.mark.parametrize(
    ("status", "code", "fault", "expected"),
    [
        (400, "bad_value", "request", (400, "bad_value")),
        (413, "invalid_request_error", "request", (413, None)),
        (None, ANSWER_TOO_LARGE, "request", (400, "answer_too_large")),
        (400, "insufficient_quota", "account", (502, "provider_account")),
        (404, None, "account", (502, "provider_account")),
        (429, "insufficient_quota", "account", (502, "provider_account")),
        (429, None, "rate_limit", (429, "rate_limit_exceeded")),
        (408, None, "timeout", (504, "provider_timeout")),
        (None, TIMEOUT, "timeout", (504, "provider_timeout")),
        (529, None, "overload", (503, "provider_overloaded")),
        (500, None, "provider", (502, "provider_error")),
        (None, None, "provider", (502, "provider_error")),
    ],
)
def test_a_failure_has_one_fault_and_one_error(
    status: int | None, code: str | None, fault: Fault, expected: tuple[int, str | None]
) -> None:
    error = ProviderRefused("internal words", status=status, code=code, retry_after=7)
    assert fault_of(error) == fault
    shown = client_error(error)
    assert (shown.status, shown.code) == expected
    assert shown.retry_after == (7 if fault in ("rate_limit", "overload", "provider") else None)
    assert "internal words" not in shown.message


def test_an_owner_reads_the_detail_unless_it_is_about_our_account() -> None:
    assert owner_message(ProviderRefused("x", status=400, detail="Line 3 is bad.")).endswith("HTTP 400: Line 3 is bad.")
    assert "detail" not in owner_message(ProviderRefused("x", status=401, detail="detail of our key"))
    assert owner_message(ProviderUnclear("x", status=500, detail="detail")) == "The provider answered HTTP 500."


def test_an_answer_that_cannot_be_read_is_said_to_be_one() -> None:
    assert "cannot be read" in client_error(ProviderUnclear("x", status=200, detail="detail")).message
