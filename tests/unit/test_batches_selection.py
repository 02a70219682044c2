"""When a deployment is exhausted for a batch that it has refused."""

from datetime import UTC, datetime

import pytest

from batches.selection import candidates
from manifold.store.jobs import JobRow
from tests.support.deployments import deployment


def refused_job(status: int | None) -> JobRow:
    return JobRow(
        id="job_a",
        batch_id="batch_a",
        input_id="input_a",
        deployment_id="a",
        state="refused",
        provider_ref=None,
        outcome=None,
        error=None,
        lasting=True,
        errors=None,
        output_ref=None,
        error_ref=None,
        output_file_id=None,
        error_file_id=None,
        results=None,
        polls=0,
        polled_at=None,
        cancel_sent_at=None,
        attempts=0,
        lease=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        submitted_at=None,
        status=status,
        age=0.0,
        answers=None,
        kept={},
        end_seen_for=None,
        mismatch_for=None,
        requests=1,
        overdue_for=None,
    )


@pytest.mark.parametrize(
    ("status", "refusals"),
    [
        *((status, 2) for status in (400, 404, 405, 410, 413, 415, 422, 501)),
        *((status, 5) for status in (401, 402, 403, 406, None)),
    ],
)
def test_refusals_that_say_that_the_request_is_wrong_exhaust_a_deployment_sooner(
    status: int | None, refusals: int
) -> None:
    def is_exhausted(count: int) -> bool:
        (candidate,) = candidates([deployment("a")], [], [refused_job(status)] * count, {})
        return candidate.exhausted

    assert [is_exhausted(refusals - 1), is_exhausted(refusals)] == [False, True]
