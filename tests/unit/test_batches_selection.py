"""When a deployment is exhausted for a batch that it has refused."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from batches.selection import Candidate, candidates, choose, to_prepare
from manifold.config import BatchLimits
from manifold.store.inputs import InputRow
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow
from tests.support.deployments import deployment

SHARD = ShardRow(
    id="shard_a",
    batch_id="batch_a",
    number=0,
    round=0,
    selection="",
    requests=1,
    bytes=1,
    tokens=1,
    state="waiting",
    outcome=None,
    errors=None,
    completed=0,
    failed=0,
    waiting_for=None,
    lease="mine",
    age=0.0,
    alone=True,
)


def prepared(refused: int) -> InputRow:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return InputRow(
        id="input_a",
        file_id="file_a",
        shard_id=None,
        deployment_id="a",
        state="ready",
        provider_ref="ref",
        error=None,
        attempts=1,
        lease=None,
        expires_at=None,
        created_at=created,
        refused=refused,
    )


def refused_job(status: int | None) -> JobRow:
    return JobRow(
        id="job_a",
        batch_id="batch_a",
        shard_id="shard_a",
        input_id="input_a",
        deployment_id="a",
        state="refused",
        provider_ref=None,
        outcome=None,
        error=None,
        execution="provider",
        lasting=True,
        errors=None,
        output_ref=None,
        error_ref=None,
        output_file_id=None,
        error_file_id=None,
        results=None,
        polls=0,
        polled_at=None,
        cancel_sent_for=None,
        attempts=0,
        lease=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        submitted_at=None,
        status=status,
        age=0.0,
        answers=None,
        refused=0,
        kept={},
        end_seen_for=None,
        mismatch_for=None,
        requests=1,
        tokens=1,
        fault=None,
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
        (candidate,) = candidates(SHARD, [deployment("a")], [], [refused_job(status)] * count, {}, {})
        return candidate.exhausted

    assert [is_exhausted(refusals - 1), is_exhausted(refusals)] == [False, True]


def test_a_deployment_never_runs_a_shard_that_is_smaller_than_a_job_there_must_be() -> None:
    """Not even where no other one can take it: it would refuse the job for certain."""
    bedrock = replace(deployment("a"), limits=BatchLimits(fewest_requests=100))
    for others in ([], [deployment("b")]):
        small, *_ = candidates(SHARD._replace(requests=99), [bedrock, *others], [], [], {}, {})
        assert small.too_small
        assert small.exhausted
    [enough] = candidates(SHARD._replace(requests=100), [bedrock], [], [], {}, {})
    assert not enough.exhausted


@pytest.mark.parametrize(("refused", "too_small"), [(0, False), (1, True), (99, True), (100, False)])
def test_requests_that_cannot_be_translated_do_not_count(refused: int, too_small: bool) -> None:
    """Where none can be, the shard ends without a job."""
    bedrock = replace(deployment("a"), limits=BatchLimits(fewest_requests=100))
    shard = SHARD._replace(requests=100)
    [candidate] = candidates(shard, [bedrock], [prepared(refused)], [], {}, {})
    assert candidate.too_small is too_small


def chosen(*options: Candidate) -> str | None:
    found = choose(options, Random(1), hold=False)
    return None if found is None else found.deployment.id


def option(name: str, refused: int | None = 0, **how: Any) -> Candidate:
    """A candidate for a shard of ten requests. `refused=None`: it has no input."""
    row = None if refused is None else prepared(refused)
    return Candidate(deployment(name), row, takes_none=refused == 10, **how)


def preparing(name: str) -> Candidate:
    return Candidate(deployment(name), prepared(0)._replace(state="pending"))


def test_one_that_takes_not_all_requests_waits_for_those_that_are_about_to_be_ready() -> None:
    assert chosen(option("a", 1), preparing("b")) is None
    assert chosen(option("a", 0), preparing("b")) == "a"
    assert chosen(option("a", 1), option("b", 0, cooldown=5.0)) == "a"


def test_one_that_takes_none_of_the_requests_waits_for_all_that_may_ever_take_some() -> None:
    for other in (option("b", 0, cooldown=5.0), option("b", 0, fits=False), option("b", None)):
        assert chosen(option("a", 10), other) is None
    for other in (option("b", 0, failed=True), option("b", 10)):
        assert chosen(option("a", 10), other) in ("a", "b")
    assert chosen(option("a", 10)) == "a"


def test_lines_of_a_shard_are_made_for_another_provider_where_the_first_does_not_take_all() -> None:
    first, same, elsewhere = option("a", 1), option("b", None), option("c", None)
    elsewhere = elsewhere._replace(deployment=replace(elsewhere.deployment, provider="other"))
    assert to_prepare([first, same, elsewhere], Random(1), first) is elsewhere
    assert to_prepare([first, same], Random(1), first) is None
    assert to_prepare([option("a", 0), elsewhere], Random(1), option("a", 0)) is None
