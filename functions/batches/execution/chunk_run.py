"""One run of a chunk: calls its requests, has the answers stored as they come, and claims its share meanwhile."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

from batches.execution.backlog import Backlog
from batches.execution.line_calls import BUSY_SECONDS, LineCalls, Means, Outcome, Request
from batches.execution.permits import Closed, Permits
from batches.execution.result_writer import ResultWriter
from manifold import observe
from manifold.dispatch.deadline import now
from manifold.dispatch.retries import FIRST_PAUSE, MAX_PAUSE
from manifold.errors import ManifoldError, ProviderError, Unavailable
from manifold.execution.pace import LONGEST_PAUSE, WORKER_CALLS, Claim, Grant

CLAIM_SECONDS = 2.0
"""Pause between two claims: after so long at most a worker learns of a cancel, or of a pause."""
LEASE_SECONDS = 30.0
"""Length of the lease: a worker's death delays its chunk by so much, and a minute of the schedule's."""
LEASE_MARGIN = 5.0
"""Seconds before the end of a lease that could not be renewed at which the run ends."""
BYTES_A_TOKEN = 4
"""Bytes of a line for one token, as a first guess."""
GRACE_SECONDS = 3.0
"""How long the calls that are under way may still take when the batch was cancelled, or its window is over."""
HELD_PAUSE_SECONDS = 15.0
"""A longer pause is not waited for: the chunk is given back until then."""
NO_PLACE_SECONDS = 10.0
"""Pause of a chunk for which the deployment's limits leave no call."""
STARVED_CLAIMS = 8
"""Successive claims that were granted no call, after which the chunk is given back."""
PROBE_AFTER = 8
"""Successive calls without an answer, after which the provider is probed."""
PROBE_SECONDS, LAST_PROBE_SECONDS = 120.0, 30.0
"""How long a probe may take, and how long as the run ends."""
LIMITED_SECONDS = 1800.0
"""After so long without any result, requests of which the provider wants no call, and takes others, have failed."""
WRITE_SECONDS = 20.0
"""For what is written as the run ends: the lease is renewed no more, and lasts longer."""

Stop = Literal["time", "window", "down", "account", "paused", "limited", "no place", "interrupted", "lost"]
"""Why a run ends with requests left: its own time, or the batch's window, is over or cancelled; the provider is down,
refuses our account, wants a pause, or wants no call of these requests; others have all its calls; S3 does not answer;
the lease is lost."""


Renew = Callable[[Claim], Awaitable[tuple[Grant, float] | None]]
"""Renews the lease: what is granted, and the seconds that are left to the chunk; `None` if the lease is lost."""


class ChunkRun:
    """The state of one run. `run` returns why it stopped, `None` if each request has a result.

    A call takes `call_seconds` at most, and the last one has ended at the time `until`. `expected` is how many requests
    there may be, of about so many `tokens` each, until they are read. The provider has been `silent` for so many
    seconds: failed, and given the chunk no result; `None` if it has not.
    """

    def __init__(
        self,
        calls: LineCalls,
        permits: Permits,
        backlog: Backlog,
        writer: ResultWriter,
        result_id: Callable[[int], str],
        renew: Renew,
        until: float,
        call_seconds: float,
        expected: int,
        tokens: int,
        silent: float | None = None,
    ) -> None:
        self.error: ProviderError | None = None
        """The last fault of the provider."""
        self._calls = calls
        self._permits = permits
        self._backlog = backlog
        self._writer = writer
        self._result_id = result_id
        self._renew = renew
        self._until = until
        self._begin_until = until - LAST_PROBE_SECONDS - call_seconds
        self._expected = expected
        self._tokens = tokens
        self._silent = silent
        self._began = now()
        self._has_result = self._has_failed = False
        self._gives_up = False
        """Whether requests of which the provider wants no call have failed by that."""
        self._unanswered = self._busy = 0
        """Successive calls without an answer, and those among them of which the provider wanted none."""
        self._starved = 0
        self._stop: Stop | None = None
        self._has_answered = self._is_probing = False
        self._prepared = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._lease_until = now() + LEASE_SECONDS - LEASE_MARGIN

    @property
    def pause(self) -> float:
        """Seconds for which the provider wants no calls."""
        return self._permits.paused

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return now() - self._began

    @property
    def failures(self) -> Mapping[int, int]:
        """How many calls have failed of each request that was called in vain, by its number."""
        return self._backlog.failures

    @property
    def silent(self) -> float | None:
        """Seconds for which the provider has failed and given no result; `None` if it has not."""
        if self._has_result or (self._silent is None and not self._has_failed):
            return None
        return (self._silent or 0.0) + self.seconds

    def last_claim(self) -> Claim:
        """Gives back, after the run, what it was granted."""
        return self._permits.claim(0, 0, LEASE_SECONDS)

    async def run(self, prepare: Callable[[], Awaitable[Sequence[Request]]]) -> Stop | None:
        """Call the requests that have no result yet, which `prepare` returns. Raises `ManifoldError`."""
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
            await self._stop_claiming(keeper)
            if self._stop != "lost":
                await self._write()
            return self._stop
        finally:
            for task in (keeper, writing, working):
                task.cancel()
            await asyncio.gather(keeper, writing, working, return_exceptions=True)

    async def _stop_claiming(self, keeper: asyncio.Task[None]) -> None:
        """Stop the keeper, but let a claim be written that is under way: it may tell others of a pause."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_SECONDS), self._claiming:
                keeper.cancel()

    async def _write(self) -> None:
        """Write what is not written yet, while the worker has time."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._writer.write()
        except TimeoutError:
            raise Unavailable("The file storage did not answer in time.") from None

    async def _work(self, prepare: Callable[[], Awaitable[Sequence[Request]]]) -> None:
        requests = await prepare()
        self._backlog.add(requests)
        self._tokens = sum(len(one.line) for one in requests) // BYTES_A_TOKEN // max(1, len(requests))
        self._expected = 0
        self._prepared.set()
        if self._silent is not None and requests:
            await self._resume(self._silent)
        while self._backlog and self._stop is None:
            if self._backlog.pending:
                await self._run_all(min(WORKER_CALLS, self._backlog.pending))
            elif self._backlog.has_suspects:
                await self._probe()
            elif self._backlog.is_fruitless:
                if await self._probe():
                    self._end("limited")
            else:
                await asyncio.sleep(min(MAX_PAUSE, FIRST_PAUSE * 2.0**self._backlog.laps))
                self._backlog.next_lap()
        if self._stop == "time" and self._backlog.has_suspects:
            await self._probe()

    async def _resume(self, silent: float) -> None:
        """Begin after so many seconds of silence: probe the provider.

        If that fails, one request is called all the same, as the provider may refuse the probe alone.
        """
        means = await self._send_probe()
        if means == "answered":
            self._permits.shares_pauses = False  # a pause may be wanted of these requests alone
            if silent >= LIMITED_SECONDS:
                self._gives_up = True
                self._permits.longest_pause = BUSY_SECONDS
        elif means in ("account", "failed", "refused"):
            await self._call(self._backlog.next())
            if not self._has_answered:
                self._end_as(means)
        else:
            self._end_as(means)

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
        while self._backlog.pending and self._stop is None:
            await self._call(self._backlog.next())
            if self._unanswered >= PROBE_AFTER and not self._is_probing and self._stop is None:
                only_busy = self._busy >= self._unanswered and not self._has_result
                if await self._probe() and only_busy and not self._gives_up:
                    self._end("limited")

    async def _call(self, request: Request) -> None:
        try:
            await self._writer.room()
            outcome = await self._calls.call(request, self._result_id(request.number))
        except Closed:
            self._backlog.put_back(request)
        else:
            self._take(request, outcome)

    def _take(self, request: Request, outcome: Outcome) -> None:
        """Note what the call of a request came to."""
        self.error = outcome.error or self.error
        match outcome.means:
            case "answered" | "refused":
                self._backlog.ended(request)
                self._keep_result(outcome)
                if outcome.means == "answered":
                    self._permits.shares_pauses, self._permits.longest_pause = True, LONGEST_PAUSE
                    self._gives_up = False
                    self._answered(outcome.begun)
            case "busy":
                self._fails()
                self._busy += 1
                if self._gives_up:
                    self._backlog.ended(request)
                    self._writer.add("error", outcome.result)  # no answer of the provider: the silence goes on
                else:
                    self._backlog.busy(request)
            case "account" | "failed":
                alone = self._has_answered and not self._unanswered and self._permits.is_single
                self._fails()
                self._backlog.failed(request, outcome, now(), alone=alone)
        if self._permits.paused > HELD_PAUSE_SECONDS:
            self._end("paused")

    def _fails(self) -> None:
        self._has_failed = True
        self._unanswered += 1

    def _answered(self, begun: float, *, probe: bool = False) -> None:
        """Note an answer of the provider to a call that began at this time."""
        self._has_answered = True
        self._unanswered = self._busy = 0
        for outcome in self._backlog.answered(begun, probe=probe):
            self._keep_result(outcome)

    async def _probe(self) -> bool:
        """Whether the provider answers at all. Where it does not, the run ends."""
        means = await self._send_probe()
        if means != "answered":
            self._end_as(means)
        return means == "answered"

    async def _send_probe(self) -> Means | None:
        """What a probe comes to, while no other call begins; `None` if it may not begin."""
        self._is_probing = True
        begun = now()
        try:
            with self._permits.held():
                seconds = min(PROBE_SECONDS, max(LAST_PROBE_SECONDS, self._until - begun))
                means, error = await self._calls.probe(seconds)
        except Closed:
            return None
        finally:
            self._is_probing = False
        if means == "answered":
            self._answered(begun, probe=True)
        elif means is not None:
            self._has_failed = True
            self.error = error or self.error
        return means

    def _end_as(self, means: Means | None) -> None:
        """End the run, as a probe was not answered."""
        match means:
            case None:
                self._end("no place")
            case "busy":
                self._end("paused")
            case "account":
                self._end("account")
            case _:
                for outcome in self._backlog.unanswered():
                    self._keep_result(outcome)
                self._end("down")

    def _keep_result(self, outcome: Outcome) -> None:
        self._has_result = True
        self._writer.add("error" if outcome.failed else "output", outcome.result)

    def _end(self, stop: Stop) -> None:
        """Let no more calls begin. Those that are under way go on. A later reason counts only where it says more."""
        if self._stop is None or stop == "window" or (self._stop == "time" and stop in ("down", "account")):
            limited = stop == "paused" and not self._permits.shares_pauses
            self._stop = "limited" if limited else stop
            self._permits.close(probes=stop != "time")
        if stop in ("down", "account"):
            self._permits.ramp.failed()

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
        if now() >= self._begin_until:
            self._end("time")
        claim = self._permits.claim(self._calls_to_begin, self._tokens, LEASE_SECONDS)
        began = now()
        try:
            async with asyncio.timeout_at(self._lease_until), self._claiming:
                renewed = await self._renew(claim)
        except TimeoutError:
            return None
        except asyncio.CancelledError:
            self._permits.restore(claim)
            raise
        except ManifoldError as error:
            observe.failed("claim_failed", error)
            self._permits.restore(claim)
            return CLAIM_SECONDS
        if renewed is None:
            return None
        self._lease_until = began + LEASE_SECONDS - LEASE_MARGIN
        grant, left = renewed
        self._permits.renew(grant)
        if left > 0:
            self._heed(grant, claim)
        return left

    @property
    def _calls_to_begin(self) -> int:
        """How many calls may still begin: one at most, a probe's, once the run's time is over."""
        if self._stop is not None:
            return int(self._stop == "time" and self._backlog.has_suspects)
        return self._expected or len(self._backlog)

    def _heed(self, grant: Grant, claim: Claim) -> None:
        """End the run where it is granted nothing."""
        self._starved = self._starved + 1 if claim.requests and self._permits.is_starved else 0
        if grant.paused > HELD_PAUSE_SECONDS:
            self._end("paused")
        elif (not grant.calls and claim.requests) or self._starved >= STARVED_CLAIMS:
            self._end("no place")

    async def _until_next_claim(self, seconds: float) -> None:
        """Wait for so long, or until the provider wants a pause."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._permits.was_paused.wait()
