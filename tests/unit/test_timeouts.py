"""The timeouts of AWS services fit into the 29 s that API Gateway waits."""

import pytest

from files.upload_completion import WAIT_SECONDS
from manifold import queue
from manifold.storage import REQUEST, TRANSFER
from manifold.store import connection, time_limit

GATEWAY_SECONDS = 29.0
BACKOFF_SECONDS = 1.0  # before botocore's second attempt, at most


def test_a_request_outlives_a_silent_storage() -> None:
    longest = REQUEST.attempts * (REQUEST.connect + REQUEST.read) + BACKOFF_SECONDS

    assert longest < GATEWAY_SECONDS - 10


def test_a_worker_waits_longer_than_a_request_and_not_for_ever() -> None:
    assert REQUEST.read < TRANSFER.read < 60


def test_a_request_outlives_a_silent_queue_behind_a_slow_database() -> None:
    unit = connection.UNIT_SECONDS + 2 * time_limit.CANCEL_SECONDS

    assert unit + queue.ANNOUNCE_SECONDS < GATEWAY_SECONDS
    assert unit + connection.TURN_SECONDS < GATEWAY_SECONDS


@pytest.mark.parametrize("seconds", [connection._CONNECT_SECONDS, connection._CHECK_SECONDS])
def test_a_connect_leaves_time_for_its_unit_of_work(seconds: float) -> None:
    assert seconds < connection.UNIT_SECONDS


def test_a_complete_that_waits_leaves_time_to_say_so() -> None:
    assert WAIT_SECONDS < GATEWAY_SECONDS
