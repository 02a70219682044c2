"""The calls that one worker may begin: what it was granted of its deployment's limits, and no more than it can hold."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from manifold.config import Deployment
from manifold.dispatch.deadline import now
from manifold.execution.pace import WORKER_CALLS, Claim, Grant, PaceLimits

FIRST_CALLS = 8
"""Calls at once of a worker that has no answer of the deployment yet. Each answer allows one more."""
DOWN_AFTER = 8
"""Successive calls without an answer, beyond the retries of one request, after which the provider counts as down."""
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

    def failed(self) -> None:
        """Begin again, with one call: the provider did not answer."""
        self._calls = 1


class Permits:
    """The permits of one run. A call takes one before it begins, and gives it back when it has ended.

    `claim` says what the run wants until its next claim, `renew` takes what it was granted.
    """

    def __init__(self, worker: str, limits: PaceLimits, ramp: Ramp, retries: int = 0) -> None:
        self._worker = worker
        self._limits = limits
        self._ramp = ramp
        self._calls = 0
        self._busy = 0
        self._requests = 0
        self._tokens = 0
        self._paused_until = 0.0
        self._pause = 0.0
        self.was_paused = asyncio.Event()
        """Set when the provider wants a pause: the other workers are to know."""
        self._closed = False
        self._down_after = DOWN_AFTER + retries
        self._failed = 0
        self._waiting = deque[asyncio.Future[None]]()

    @property
    def calls(self) -> int:
        """Calls at once that were granted last."""
        return self._calls

    @property
    def paused(self) -> float:
        """Seconds for which no call may begin."""
        return max(0.0, self._paused_until - now())

    def claim(self, requests: int, tokens: int, seconds: float) -> Claim:
        """What to ask for: enough for so many more requests, of about so many tokens each, and for those that wait."""
        pause, self._pause = self._pause, 0.0
        requests += sum(1 for waiting in self._waiting if not waiting.done())
        self.was_paused.clear()
        claim = Claim(
            self._worker,
            min(WORKER_CALLS, requests + self._busy),
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
        self._paused_until = now() + grant.paused
        self._wake()

    def pause(self, seconds: float) -> None:
        """The provider wants no calls for so long: none begins here, and the next claim tells the other workers."""
        self._pause = max(self._pause, seconds)
        self._paused_until = max(self._paused_until, now() + seconds)
        self.was_paused.set()

    @property
    def is_down(self) -> bool:
        """Whether the provider answers nothing, by all that is known."""
        return self._failed >= self._down_after

    def answered(self) -> None:
        """The provider answered a call."""
        self._failed = 0

    def failed(self) -> None:
        """A call failed by a fault of the provider. Once it counts as down, no call begins any more."""
        self._failed += 1
        if self.is_down:
            self.close()

    def close(self) -> None:
        """Let no call begin any more: who waits for one gets `Closed`."""
        self._closed = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(Closed())

    async def take(self, tokens: int) -> None:
        """Wait until a call of about so many tokens may begin. Raises `Closed`."""
        while not self._may_begin():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                self._wake()  # it may have been this one's turn
                raise
        self._busy += 1
        self._requests -= 1
        self._tokens -= tokens

    def give_back(self) -> None:
        """A call has ended."""
        self._busy -= 1
        self._wake()

    def spend(self, tokens: int) -> None:
        """Note that a call took so many more tokens than was thought, or fewer."""
        self._tokens -= tokens

    def _may_begin(self) -> bool:
        if self._closed:
            raise Closed
        if self._busy >= min(self._calls, self._ramp.calls) or self._paused_until > now():
            return False
        return (self._limits.rpm is None or self._requests > 0) and (self._limits.tpm is None or self._tokens > 0)

    def _wake(self) -> None:
        free = min(self._calls, self._ramp.calls) - self._busy
        while free > 0 and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                free -= 1


class Turn:
    """The permits of one request, as `CallLimits`: the first call has the one that was taken for it, others wait."""

    def __init__(self, permits: Permits, tokens: int) -> None:
        self._permits = permits
        self._tokens = tokens
        self._taken = False

    async def begin(self) -> None:
        """Take the permit of the first call. Raises `Closed`."""
        await self._permits.take(self._tokens)
        self._taken = True

    def end(self) -> None:
        """Give the permit back of a call that was not made."""
        if self._taken:
            self._taken = False
            self._permits.give_back()

    @asynccontextmanager
    async def at(self, deployment: Deployment, body: Mapping[str, Any]) -> AsyncIterator[None]:
        if not self._taken:
            await self._permits.take(self._tokens)
        self._taken = False
        try:
            yield
        finally:
            self._permits.give_back()
