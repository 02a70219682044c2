"""How many calls the workers of one deployment may begin: its `max_parallel_requests`, `rpm` and `tpm`, shared. Pure.

Calls and tokens come back at a steady rate, and no more than a few seconds' worth of them is ever free. So in no
minute, wherever it begins, are there more than the limit. Completions of the same deployment are counted against the
same limits, are never refused by them, and find a tenth of them free.

    grant, pace = admit(pace, limits, Claim("chunk_…", calls=64, requests=200, tokens=50_000))
"""

from typing import NamedTuple, Self

from manifold.config import Deployment
from manifold.store.paces import PaceRow

PARALLEL = 64
"""Calls at once where `max_parallel_requests` is not set."""
WORKER_CALLS = 64
"""Calls at once of one worker."""
BURST_SECONDS = 3.0
"""How much may be free, and as much again granted and not begun: what comes back in so many seconds. That is more than
a worker's pause between two claims."""
_SECONDS = 60.0 + 2 * BURST_SECONDS
"""In which a minute's limit comes back: in any minute it is then kept, with what was free and granted before it."""
SHARE = 0.9
"""The part of each limit that batches take at a deployment that serves completions, too."""
LONGEST_PAUSE = 300.0
"""Seconds for which a provider's `Retry-After` is believed, as of completions."""


class PaceLimits(NamedTuple):
    """What all workers of a deployment together may do; `None` where there is no limit."""

    parallel: int = PARALLEL
    """Calls at once."""
    rpm: float | None = None
    """Calls in a minute."""
    tpm: float | None = None
    """Tokens in a minute."""

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        """Those of a deployment, less what is kept free for completions."""
        share = SHARE if deployment.serves_completions else 1.0
        parallel = deployment.max_parallel_requests or PARALLEL
        return cls(max(1, int(parallel * share)), _part(deployment.rpm, share), _part(deployment.tpm, share))

    @property
    def workers(self) -> int:
        """How many workers it takes to have so many calls at once."""
        return -(-self.parallel // WORKER_CALLS)


class Claim(NamedTuple):
    """What one worker asks for until its next claim, and what it has not used of the last one."""

    worker: str
    calls: int
    """Calls at once."""
    requests: int
    """Calls that it could begin."""
    tokens: int
    """Tokens that they could take."""
    unused_requests: int = 0
    unused_tokens: int = 0
    """Below 0 where its calls took more than it was granted."""
    pause: float = 0.0
    """Seconds for which the provider wants no calls."""
    seconds: float = 30.0
    """After so many the worker counts as dead, and its calls as ended."""


class Grant(NamedTuple):
    """What a worker may do until its next claim."""

    calls: int = 0
    requests: int = 0
    tokens: int = 0
    paused: float = 0.0
    """Seconds for which it may begin none."""


def admit(pace: PaceRow, limits: PaceLimits, claim: Claim) -> tuple[Grant, PaceRow]:
    """What the worker is granted, and the pace after it."""
    free_requests = _refilled(pace, pace.free_requests + claim.unused_requests, limits.rpm)
    free_tokens = _refilled(pace, pace.free_tokens + claim.unused_tokens, limits.tpm)
    paused_until = max(pace.paused_until, pace.now + min(claim.pause, LONGEST_PAUSE) if claim.pause else 0.0)
    others = {name: one for name, one in pace.leases.items() if name != claim.worker and _expiry(one) > pace.now}
    calls = max(0, min(claim.calls, limits.parallel - sum(map(_calls, others.values()))))
    paused = max(0.0, paused_until - pace.now)
    requests = tokens = 0
    if calls and not paused:
        requests = _granted(claim.requests, free_requests, limits.rpm)
        tokens = _granted(claim.tokens, free_tokens, limits.tpm)
    leases = {**others, claim.worker: [calls, pace.now + claim.seconds]} if calls else others
    after = pace._replace(
        paced_at=pace.now,
        paused_until=paused_until,
        free_requests=free_requests - (requests if limits.rpm else 0),
        free_tokens=free_tokens - (tokens if limits.tpm else 0),
        leases=leases,
    )
    return Grant(calls, requests, tokens, paused), after


def _part(limit: int | None, share: float) -> float | None:
    return None if limit is None else limit * share


def _refilled(pace: PaceRow, free: float, limit: float | None) -> float:
    """What is free by now: below 0 after more than there was room for, but by no more than a minute's limit.

    A limit of less than a call in `BURST_SECONDS` still lets one begin.
    """
    if limit is None:
        return 0.0
    most = max(1.0, limit * BURST_SECONDS / _SECONDS)
    if pace.paced_at is None:
        return most
    passed = max(0.0, pace.now - pace.paced_at)
    return min(most, max(-limit, free) + passed * limit / _SECONDS)


def _granted(requested: int, free: float, limit: float | None) -> int:
    return requested if limit is None else max(0, min(requested, int(free)))


def _calls(lease: object) -> int:
    return int(lease[0]) if isinstance(lease, list) else 0


def _expiry(lease: object) -> float:
    return float(lease[1]) if isinstance(lease, list) else 0.0
