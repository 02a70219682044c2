"""Requests that failed by a fault of the provider are failed only once it answers others."""

from batches.execution.line_calls import Outcome, Request
from batches.execution.suspects import Suspects

FAILED = Outcome("failed", b"{}\n")


def request(number: int) -> Request:
    return Request(number, b"")


def test_an_answer_to_a_later_call_proves_the_request_at_fault() -> None:
    suspects = Suspects()
    suspects.add(request(1), FAILED, at=10.0)
    assert suspects.answered(begun=9.0) == []
    assert suspects
    assert suspects.answered(begun=11.0) == [(request(1), FAILED)]
    assert not suspects
