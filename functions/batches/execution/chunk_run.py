"""One run of a chunk: calls its requests, has the answers stored as they come, and claims its share meanwhile."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from batches.execution.line_calls import Closed, LineCalls, Outcome, Request
from batches.execution.permits import Permits, Ramp
from batches.execution.result_writer import ResultWriter
from batches.execution.suspects import Suspects
from manifold import observe
from manifold.dispatch.deadline import now
from manifold.errors import ManifoldError, ProviderError
from manifold.execution.pace import WORKER_CALLS, Claim, Grant

CLAIM_SECONDS = 2.0
"""Pause between two claims: after so long at most a worker learns of a cancel, or of a pause."""
LEASE_SECONDS = 30.0
"""Length of the lease: a worker's death delays its chunk by so much, and a minute of the schedule's."""
LEASE_MARGIN = 5.0
"""Seconds before the end of a lease that could not be renewed at which the run ends."""
GRACE_SECONDS = 3.0
"""How long the calls that are under way may still take when the batch was cancelled, or its window is over."""
HELD_PAUSE_SECONDS = 15.0
"""A longer pause is not waited for: the chunk is given back until then."""
NO_PLACE_SECONDS = 10.0
"""Pause of a chunk for which the deployment's limits leave no call."""

Stop = Literal["time", "window", "down", "account", "paused", "no place", "interrupted", "lost"]
"""Why a run ends with requests left: its own time, or the batch's window, is over or cancelled; the provider is down,
refuses our account, or wants a pause; others have all its calls; S3 does not answer; the lease is lost."""


Renew = Callable[[Claim], Awaitable[tuple[Grant, float] | None]]
"""Renews the lease: what is granted, and the seconds that are left to the chunk; `None` if the lease is lost."""


class ChunkRun:
    """The state of one run. `run` returns why it stopped, `None` if each request is answered.

    Calls may begin until the time `until`. `expected` is how many requests there may be, each of about so many
    `tokens`.
    """

    def __init__(
        self,
        calls: LineCalls,
        permits: Permits,
        ramp: Ramp,
        writer: ResultWriter,
        result_id: Callable[[int], str],
        renew: Renew,
        until: float,
        expected: int,
        tokens: int,
    ) -> None:
        self.answered = False
        """Whether the provider answered anything."""
        self.error: ProviderError | None = None
        """The last fault of the provider."""
        self._calls = calls
        self._permits = permits
        self._ramp = ramp
        self._writer = writer
        self._result_id = result_id
        self._renew = renew
        self._until = until
        self._expected = expected
        self._tokens = tokens
        self._pending = deque[Request]()
        self._suspects = Suspects()
        self._stop: Stop | None = None
        self._prepared = asyncio.Event()
        self._lease_until = now() + LEASE_SECONDS - LEASE_MARGIN

    @property
    def pause(self) -> float:
        """Seconds for which the provider wants no calls."""
        return self._permits.paused

    async def run(self, prepare: Callable[[], Awaitable[Iterable[Request]]]) -> Stop | None:
        """Call the requests that are not answered yet, which `prepare` returns. Raises `ManifoldError`."""
        keeper = asyncio.create_task(self._keep())
        writing = asyncio.create_task(self._writer.keep_writing())
        working = asyncio.create_task(self._work(prepare))
        try:
            await asyncio.wait((keeper, writing, working), return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():
                keeper.result()
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            elif writing.done():
                writing.result()
            else:
                working.result()
            if self._stop != "lost":
                await self._writer.write()
            return self._stop
        finally:
            for task in (keeper, writing, working):
                task.cancel()
            await asyncio.gather(keeper, writing, working, return_exceptions=True)

    async def _work(self, prepare: Callable[[], Awaitable[Iterable[Request]]]) -> None:
        self._pending.extend(await prepare())
        self._expected = 0
        self._prepared.set()
        while self._stop is None and (self._pending or self._suspects):
            if self._pending:
                await self._run_all(min(WORKER_CALLS, len(self._pending)))
            else:
                await self._probe()

    async def _run_all(self, count: int) -> None:
        """Have so many requests called at once, until none is pending. Where one raises, the others end."""
        runners = [asyncio.create_task(self._runner()) for _ in range(count)]
        try:
            await asyncio.gather(*runners)
        finally:
            for runner in runners:
                runner.cancel()
            await asyncio.gather(*runners, return_exceptions=True)

    async def _runner(self) -> None:
        while self._pending and self._stop is None:
            request = self._pending.popleft()
            try:
                await self._writer.room()
                begun = now()
                outcome = await self._calls.call(request, self._result_id(request.number))
            except Closed:
                self._pending.appendleft(request)
                if self._permits.is_down:
                    self._end("down")
                return
            self._take(request, outcome, begun)

    async def _probe(self) -> None:
        """Only suspects are left: is the fault theirs, or the provider's?"""
        begun = now()
        try:
            answers = await self._calls.probe()
        except Closed:
            answers = False
        if not answers:
            self._end("down")
            return
        self._prove(begun)

    def _take(self, request: Request, outcome: Outcome, begun: float) -> None:
        """Note what the calls of a request came to."""
        self.error = outcome.error or self.error
        if outcome.means == "failed":
            self._suspects.add(request, outcome, now())
        elif outcome.result:
            self._keep_result(outcome)
            if outcome.means == "answered":
                self.answered = True
                self._prove(begun)
        else:
            self._pending.append(request)
            if outcome.means == "account":
                self._end("account")
            elif self._permits.paused > HELD_PAUSE_SECONDS:
                self._end("paused")

    def _prove(self, begun: float) -> None:
        for _, outcome in self._suspects.answered(begun):
            self._keep_result(outcome)

    def _keep_result(self, outcome: Outcome) -> None:
        self._writer.add("error" if outcome.failed else "output", outcome.result)

    def _end(self, stop: Stop) -> None:
        """Let no more calls begin. Those that are under way go on."""
        if self._stop is None:
            self._stop = stop
            self._permits.close()
        if stop in ("down", "account"):
            self._ramp.failed()

    async def _keep(self) -> None:
        """Claim at intervals. Returns when the run has to end at once: the lease is lost, or the window is over."""
        while (left := await self._claim()) is not None and left > 0:
            await self._until_next_claim(min(CLAIM_SECONDS, left, self._permits.paused or CLAIM_SECONDS))
        if left is None:
            self._stop = "lost"
            self._permits.close()
        else:
            self._end("window")
            await self._prepared.wait()  # what earlier attempts have left is part of the chunk's end
            await asyncio.sleep(GRACE_SECONDS)

    async def _claim(self) -> float | None:
        """Claim once. Returns the seconds that are left to the chunk; `None` if the lease is lost."""
        if now() >= self._until:
            self._end("time")
        waiting = self._expected or len(self._pending)
        claim = self._permits.claim(waiting, self._tokens, LEASE_SECONDS)
        began = now()
        try:
            async with asyncio.timeout_at(self._lease_until):
                renewed = await self._renew(claim)
        except TimeoutError:
            return None
        except ManifoldError as error:
            observe.failed("claim_failed", error)
            self._permits.renew(Grant(self._permits.calls, claim.unused_requests, claim.unused_tokens))
            return CLAIM_SECONDS
        if renewed is None:
            return None
        self._lease_until = began + LEASE_SECONDS - LEASE_MARGIN
        grant, left = renewed
        self._permits.renew(grant)
        if left <= 0:
            return left
        if grant.paused > HELD_PAUSE_SECONDS:
            self._end("paused")
        elif not grant.calls and claim.requests:
            self._end("no place")
        return left

    async def _until_next_claim(self, seconds: float) -> None:
        """Wait for so long, or until the provider wants a pause."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._permits.was_paused.wait()
