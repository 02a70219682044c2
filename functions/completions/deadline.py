"""When everything must have ended: before API Gateway stops waiting, which it began to do when the request arrived."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from manifold.errors import TIMEOUT, CallFailed, ProviderError, ProviderUnclear

MARGIN_SECONDS = 1.0
"""What is left of API Gateway's patience when the last call ends: to write the answer, and to carry it there."""
NOTE_SECONDS = 0.3
"""What a call that was cut at the deadline may take of that, to note whose failure it was."""
SHARE = 2 / 3
"""Of the time that is left, for an attempt that sets no time of its own and after which another could be made."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How long one attempt may take, or one pause within a stream: seconds."""

    seconds: float
    natural: float
    """What it would be if the caller had set no `timeout`."""
    callers: bool
    """Whether the caller's `timeout` cuts it short."""
    fair: bool
    """Whether the deployment has its own time or, where it has none, at least half of that of a request."""

    def passed(self) -> ProviderError:
        """What it means that it passed: a failure of the deployment's only where it was the deployment's to keep."""
        if self.callers:
            return Cut(499, "caller_timeout")
        return TimedOut(self.seconds) if self.fair else Cut(504, "deadline_exceeded")


class TimedOut(ProviderUnclear):
    """A deployment did not answer within the `seconds` that it had."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer in {seconds:.1f} s", code=TIMEOUT)
        self.seconds = seconds


class Cut(ProviderError):
    """The gateway gave a call up, for a reason that is not the deployment's; the code names it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"given up: {code}", status=status, code=code)


OUTRUN = "outrun"
"""Of a call that was given up as another model answered first."""


def cancelled(error: asyncio.CancelledError) -> Cut:
    """Why a call was cancelled: it was outrun, or its client has left."""
    return Cut(499, OUTRUN if error.args == (OUTRUN,) else "cancelled")


@dataclass(frozen=True, slots=True)
class Deadline:
    """Two moments by the running event loop's clock, seconds: the caller's may come before the gateway's."""

    at: float
    gateways: float
    patience: float
    """Seconds from a request's arrival to the gateway's own deadline."""

    @classmethod
    def of(cls, event: Mapping[str, Any] | None, timeout: float) -> "Deadline":
        """That of a request which API Gateway gives up `timeout` seconds after it arrived; without an event, now."""
        arrived = ((event or {}).get("requestContext") or {}).get("requestTimeEpoch")
        waited = max(0.0, time.time() - arrived / 1000) if arrived else 0.0
        patience = timeout - MARGIN_SECONDS
        at = asyncio.get_running_loop().time() + patience - waited
        return cls(at, at, patience)

    @property
    def left(self) -> float:
        """Seconds; none or less once it has passed."""
        return self.at - asyncio.get_running_loop().time()

    def within(self, seconds: float | None) -> "Deadline":
        """This one, or `seconds` from now if that is sooner: the caller's."""
        if seconds is None:
            return self
        return replace(self, at=min(self.at, asyncio.get_running_loop().time() + seconds))

    def bound(self, own: float | None, *, others: bool) -> Bound:
        """How long an attempt may take: `own` seconds, if that is less than what is left.

        Else all that is left or, where `others` could be asked after it, a share of that. A caller may want it shorter.
        """
        now = asyncio.get_running_loop().time()
        left = self.gateways - now
        has_own = own is not None and own < left
        natural = own if own is not None and has_own else left * (SHARE if others else 1.0)
        callers = self.at < min(now + natural, self.gateways)
        seconds = max(0.0, self.at - now if callers else natural)
        return Bound(seconds, natural, callers, fair=has_own or seconds >= self.patience / 2)


def exceeded() -> CallFailed:
    """What stands in the place of an answer that did not come in time."""
    return CallFailed(
        "There was no answer in time. Ask for less in one request, or for a shorter answer.",
        status=504,
        code="deadline_exceeded",
    )
