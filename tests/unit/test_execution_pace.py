"""The share of a deployment's limits that each worker is granted."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from manifold.execution.pace import WORKER_CALLS, Claim, Grant, PaceLimits, admit
from manifold.store.paces import PaceRow
from tests.support.deployments import deployment

EMPTY = PaceRow(now=1000.0, paced_at=None, paused_until=0.0, free_requests=0.0, free_tokens=0.0, leases={})


def claim(worker: str, calls: int = 64, requests: int = 1000, tokens: int = 0, **more: Any) -> Claim:
    return Claim(worker, calls, requests, tokens)._replace(**more)


def test_calls_at_once_are_shared() -> None:
    limits = PaceLimits(parallel=100)
    first, pace = admit(EMPTY, limits, claim("a"))
    second, pace = admit(pace, limits, claim("b"))
    third, pace = admit(pace, limits, claim("c"))
    assert (first.calls, second.calls, third.calls) == (64, 36, 0)
    again, _ = admit(pace, limits, claim("a", calls=10))
    assert again.calls == 10


def test_completions_come_first_and_keep_a_part_free() -> None:
    shared = replace(deployment("a"), execution="gateway", max_parallel_requests=50, rpm=100)
    limits = PaceLimits.of(shared)
    assert (limits.parallel, limits.rpm) == (45, 90)
    busy = EMPTY._replace(leases={"call_1": [40, EMPTY.now + 10]})
    assert admit(busy, limits, claim("a"))[0].calls == 5


def test_a_deployment_for_batches_alone_is_used_in_full() -> None:
    limits = PaceLimits.of(replace(deployment("a"), execution="gateway", mode="batch", tpm=1000))
    assert limits == PaceLimits(64, None, 1000)
    assert limits.workers == 1
    assert PaceLimits(parallel=WORKER_CALLS * 32).workers == 32


def test_a_dead_worker_holds_its_calls_until_its_lease_ends() -> None:
    limits = PaceLimits(parallel=64)
    _, pace = admit(EMPTY, limits, claim("dead"))
    assert admit(pace._replace(now=pace.now + 29), limits, claim("b"))[0].calls == 0
    assert admit(pace._replace(now=pace.now + 31), limits, claim("b"))[0].calls == 64


def test_a_pause_is_everybodys_and_is_bounded() -> None:
    limits = PaceLimits(rpm=600)
    grant, pace = admit(EMPTY, limits, claim("a", pause=20.0))
    assert grant == Grant(64, 0, 0, 20.0)
    assert admit(pace._replace(now=pace.now + 5), limits, claim("b", calls=1))[0].paused == 15.0
    assert admit(EMPTY, limits, claim("a", pause=9999.0))[0].paused == 300.0


@pytest.mark.parametrize("rpm", [1, 3, 10, 60, 250, 3000])
@pytest.mark.parametrize("seed", range(5))
def test_no_minute_has_more_calls_than_the_limit(rpm: int, seed: int) -> None:
    random, limits, pace = Random(seed), PaceLimits(parallel=1000, rpm=rpm), EMPTY
    granted = dict.fromkeys("abc", 0)
    begun = list[float]()
    at = EMPTY.now
    while at < EMPTY.now + 300:
        at += random.uniform(0.1, 2.0)
        worker = random.choice("abc")
        used = granted[worker] if random.random() < 0.9 else random.randint(0, granted[worker])
        begun += [at] * used
        asked = claim(worker, calls=64, requests=random.choice((0, 5, 1000)), unused_requests=granted[worker] - used)
        grant, pace = admit(pace._replace(now=at), limits, asked)
        granted[worker] = grant.requests
    most = max(sum(1 for one in begun if start <= one < start + 60) for start in begun) if begun else 0
    assert most <= rpm + 1
    assert len(begun) >= 0.5 * rpm * 5 * 60 / 66 or rpm < 3


def test_tokens_that_were_underestimated_are_paid_back() -> None:
    limits = PaceLimits(tpm=6600)
    first, pace = admit(EMPTY, limits, claim("a", tokens=10_000))
    assert first.tokens == 300
    after = pace._replace(now=pace.now + 2)
    second, pace = admit(after, limits, claim("a", tokens=10_000, unused_tokens=first.tokens - 1000))
    assert second.tokens == 0
    assert pace.free_tokens == pytest.approx(-700 + 200)


def test_a_debt_is_paid_back_within_a_minute_or_so() -> None:
    """Completions, and answers of millions of tokens, may take more than there is; batches then wait for that long."""
    limits = PaceLimits(rpm=660, tpm=6600)
    owing = EMPTY._replace(paced_at=EMPTY.now, free_requests=-1e6, free_tokens=-1e9)
    _, pace = admit(owing, limits, claim("a"))
    assert (pace.free_requests, pace.free_tokens) == (-660, -6600)
    grant, _ = admit(pace._replace(now=pace.now + 70), limits, claim("a", tokens=10))
    assert grant.requests > 0


def test_completions_take_what_batches_then_lack() -> None:
    limits = PaceLimits(rpm=660)
    _, pace = admit(EMPTY, limits, claim("a", requests=0))
    assert pace.free_requests == 30
    taken = pace._replace(free_requests=pace.free_requests - 40, now=pace.now + 0.5)
    assert admit(taken, limits, claim("a"))[0].requests == 0
