"""Which requests of a run are called next, and which have failed."""

from batches.execution.backlog import Backlog
from batches.execution.line_calls import Outcome, Request

FAILED = Outcome("failed", b"{}\n")
FIRST, SECOND, THIRD = (Request(number, b"") for number in range(3))


def backlog(*requests: Request, most_failures: int = 2, failures: dict[int, int] | None = None) -> Backlog:
    made = Backlog(most_failures, failures or {})
    made.add(requests)
    return made


def test_an_answer_to_a_later_call_counts_a_failed_one_against_its_request() -> None:
    requests = backlog(FIRST)
    for began in (10.0, 20.0):
        requests.failed(requests.next(), FAILED, at=began + 1)
        assert requests.answered(began) == [], "that call began before the other one failed"
        failed = requests.answered(began + 2)
        requests.next_lap()
    assert failed == [FAILED]
    assert len(requests) == 0
    assert requests.failures == {}


def test_a_failure_without_an_answer_counts_against_nobody() -> None:
    requests = backlog(FIRST)
    requests.failed(requests.next(), FAILED, at=1.0)
    assert requests.unanswered() == []
    assert requests.failures == {0: 0}, "it comes last in the next run"
    assert requests.has_suspects


def test_the_one_call_after_which_nothing_was_answered_counts() -> None:
    requests = backlog(FIRST, SECOND)
    requests.failed(requests.next(), FAILED, at=1.0, alone=True)
    requests.failed(requests.next(), FAILED, at=2.0)
    assert requests.unanswered() == []
    assert requests.failures == {0: 1, 1: 0}


def test_those_that_were_called_in_vain_come_last() -> None:
    requests = backlog(FIRST, SECOND, THIRD, failures={0: 1, 1: 0})
    assert [requests.next() for _ in range(3)] == [THIRD, FIRST, SECOND]
    requests.ended(FIRST)
    assert requests.failures == {1: 0}


def test_what_is_to_be_called_again_waits_for_the_next_lap() -> None:
    requests = backlog(FIRST, SECOND)
    requests.busy(requests.next())
    requests.put_back(requests.next())
    assert (requests.pending, len(requests)) == (1, 2)
    requests.ended(requests.next())
    assert requests.pending == 0
    requests.next_lap()
    assert requests.next() is FIRST


def test_two_laps_in_which_no_call_is_wanted_are_fruitless() -> None:
    requests = backlog(FIRST, SECOND)
    for answered in (True, False, False):
        assert not requests.is_fruitless
        requests.busy(requests.next())
        if requests.pending:
            requests.ended(requests.next())
        if answered:
            requests.answered(1.0)
        if len(requests) and not requests.is_fruitless:
            requests.next_lap()
    assert requests.is_fruitless
    assert requests.answered(5.0, probe=True) == []
    assert requests.is_fruitless, "that other calls are taken is no answer to these"
