"""The calls that one worker may begin: what it was granted of its deployment's limits, and no more than it can hold."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from manifold.dispatch.deadline import now
from manifold.execution.pace import LONGEST_PAUSE, WORKER_CALLS, Claim, Grant, PaceLimits

FIRST_CALLS = 8
"""Calls at once of a worker that has no answer of the deployment yet. Each answer allows one more."""
MEMORY_BYTES = 512 * 1024 * 1024
"""For the answers that are being read."""
ANSWER_COPIES = 8
"""How many times its size an answer takes while it is read and written."""


class Closed(Exception):
    """No call begins any more: the run stops."""


class Ramp:
    """How many calls one environment has at once at a deployment, by the answers that it has seen there."""

    def __init__(self) -> None:
        self._calls = FIRST_CALLS
        self._largest = 0

    @property
    def calls(self) -> int:
        largest = max(self._largest, 1)
        return max(1, min(self._calls, MEMORY_BYTES // (ANSWER_COPIES * largest)))

    def answered(self, size: int) -> None:
        """Note an answer of so many bytes."""
        self._calls = min(WORKER_CALLS, self._calls + 1)
        self._largest = max(size, int(self._largest * 0.99))

    def paused(self) -> None:
        """Have half as many: the provider wants fewer."""
        self._calls = max(1, self._calls // 2)

    def failed(self) -> None:
        """Begin again, with one call: the provider did not answer."""
        self._calls = 1


class Permit:
    """The permit of one call of about so many tokens."""

    def __init__(self, permits: "Permits", tokens: int) -> None:
        self._permits = permits
        self._tokens = tokens

    def spend(self, tokens: int) -> None:
        """Note that the call took so many tokens."""
        self._permits.charge(0, tokens - self._tokens)

    def unused(self) -> None:
        """Note that no call was made."""
        self._permits.charge(-1, -self._tokens)


class Permits:
    """The permits of one run. `claim` says what the run wants until its next claim, `renew` takes what was granted."""

    def __init__(self, worker: str, limits: PaceLimits, ramp: Ramp) -> None:
        self.ramp = ramp
        self.shares_pauses = True
        """Whether a pause that the provider wants is one for the other workers, too."""
        self.longest_pause = LONGEST_PAUSE
        """Seconds for which a pause is believed."""
        self.was_paused = asyncio.Event()
        """Set when the other workers are to know of a pause."""
        self._worker = worker
        self._limits = limits
        self._calls = 0
        self._under_way = 0
        self._requests = 0
        self._tokens = 0
        self._paused_until = 0.0
        self._pause = 0.0
        self._is_held = self._is_closed = self._is_closed_to_probes = False
        self._waiting = deque[asyncio.Future[None]]()

    @property
    def paused(self) -> float:
        """Seconds for which no call may begin."""
        return max(0.0, self._paused_until - now())

    @property
    def is_single(self) -> bool:
        """Whether calls are made one by one, and none is under way."""
        return min(self._calls, self.ramp.calls) == 1 and not self._under_way

    @property
    def is_starved(self) -> bool:
        """Whether no call is under way, and none may begin, as nothing is left of what was granted."""
        return not (self._under_way or self.paused or self._has_grant)

    def claim(self, requests: int, tokens: int, seconds: float) -> Claim:
        """What to ask for: enough for so many requests, of about so many tokens each, and for those that wait."""
        pause, self._pause = self._pause, 0.0
        requests += sum(1 for waiting in self._waiting if not waiting.done())
        self.was_paused.clear()
        claim = Claim(
            self._worker,
            min(WORKER_CALLS, requests + self._under_way),
            requests,
            requests * tokens,
            self._requests,
            self._tokens,
            pause,
            seconds,
        )
        self._requests = self._tokens = 0  # given back with the claim
        return claim

    def renew(self, grant: Grant) -> None:
        """Take what was granted."""
        self._calls = grant.calls
        self._requests += grant.requests
        self._tokens += grant.tokens
        self._paused_until = max(self._paused_until, now() + grant.paused)
        self._wake()

    def restore(self, claim: Claim) -> None:
        """Have again what was claimed in vain."""
        self._requests += claim.unused_requests
        self._tokens += claim.unused_tokens
        self._pause = max(self._pause, claim.pause)
        self._wake()

    def pause(self, seconds: float) -> None:
        """The provider wants no calls for so long: none begins here, and the next claim tells the other workers."""
        if not self.paused:
            self.ramp.paused()
        seconds = min(seconds, self.longest_pause)
        self._paused_until = max(self._paused_until, now() + seconds)
        if self.shares_pauses:
            self._pause = max(self._pause, seconds)
            self.was_paused.set()

    def charge(self, requests: int, tokens: int) -> None:
        """Take calls and tokens of what was granted, or give them back where they are below 0."""
        self._requests -= requests
        self._tokens -= tokens

    def close(self, *, probes: bool = True) -> None:
        """Let no call begin any more, or none but a probe: who waits for one gets `Closed`."""
        self._is_closed = True
        self._is_closed_to_probes = probes
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the context, none but a probe begins."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self._wake()

    @asynccontextmanager
    async def at(self, tokens: int, *, probes: bool = False) -> AsyncIterator[Permit]:
        """Wait until a call or a probe, of about so many tokens, may begin, and be within it. Raises `Closed`."""
        while not self._may_begin(probes=probes):
            await self._turn(first=probes)
        self._under_way += 1
        self.charge(1, tokens)
        try:
            yield Permit(self, tokens)
        finally:
            self._under_way -= 1
            self._wake()

    def _may_begin(self, *, probes: bool) -> bool:
        if self._is_closed_to_probes if probes else self._is_closed:
            raise Closed
        if self._paused_until > now() or (self._is_held and not probes):
            return False
        return self._has_grant and self._under_way < min(self._calls, self.ramp.calls)

    @property
    def _has_grant(self) -> bool:
        return (self._limits.rpm is None or self._requests > 0) and (self._limits.tpm is None or self._tokens > 0)

    async def _turn(self, *, first: bool) -> None:
        waiting = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(waiting)
        else:
            self._waiting.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            self._wake()  # it may have been this one's turn
            raise

    def _wake(self) -> None:
        free = 1 if self._is_held else min(self._calls, self.ramp.calls) - self._under_way
        while free > 0 and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                free -= 1
