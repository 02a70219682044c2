"""How long a request may take, and each attempt within it. Times are the event loop's, in seconds."""

import asyncio
from typing import NamedTuple

from manifold.errors import TIMEOUT, CallFailed, ProviderError, ProviderUnclear
from manifold.provider_errors import client_error

NOTE_SECONDS = 0.3
"""After the deadline: what an attempt that was cut there may take to note whose failure it was."""
SHARE = 2 / 3
"""Of the time that is left: for an attempt without a `timeout` of its own, which another one could follow."""
OUTRUN = "outrun"
"""The code of a call that was given up as another model answered first."""


class Bound(NamedTuple):
    """How long one attempt may take, or one pause within a stream: seconds."""

    seconds: float
    uncut: float
    """What it would be if the caller had set no `timeout`."""
    by_caller: bool
    """Whether the caller's `timeout` cuts it short."""
    fair: bool
    """Whether the deployment has its own time or, where it has none, at least half of a request's."""

    def passed(self) -> ProviderError:
        """The error of an attempt that took longer: the deployment's own only if it had its own or a fair time."""
        if self.by_caller:
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


def cancelled(error: asyncio.CancelledError) -> Cut:
    """Why a call was cancelled: another model answered first, or its client has left."""
    return Cut(499, OUTRUN if error.args == (OUTRUN,) else "cancelled")


class Deadline(NamedTuple):
    """When a request must have ended: at the caller's `timeout`, or at the gateway's own limit if that is sooner.

    Made once for each request (`after`, then `within`); the router and each attempt keep to it.
    """

    at: float
    """By the event loop's clock, like `gateways`."""
    gateways: float
    """The gateway's own limit, which no caller's `timeout` puts off."""
    total: float
    """Seconds from the request's arrival to `gateways`."""

    @classmethod
    def after(cls, seconds: float, *, passed: float = 0.0) -> "Deadline":
        """That of a request which may take so many seconds, of which some have passed already."""
        at = now() + seconds - passed
        return cls(at, at, seconds)

    @property
    def left(self) -> float:
        """Seconds; none or less once it has passed."""
        return self.at - now()

    def within(self, seconds: float | None) -> "Deadline":
        """This one, or `seconds` from now if that is sooner: the caller's."""
        if seconds is None:
            return self
        return self._replace(at=min(self.at, now() + seconds))

    def bound(self, timeout: float | None, *, others: bool) -> Bound:
        """How long an attempt may take: the deployment's `timeout`, in seconds, if that is less than what is left.

        Else all that is left or, where `others` could be tried after it, a share of that. A caller's may be shorter.
        """
        began = now()
        left = self.gateways - began
        has_own = timeout is not None and timeout < left
        uncut = timeout if timeout is not None and has_own else left * (SHARE if others else 1.0)
        by_caller = self.at < min(began + uncut, self.gateways)
        seconds = max(0.0, self.at - began if by_caller else uncut)
        return Bound(seconds, uncut, by_caller, fair=has_own or seconds >= self.total / 2)

    def failure(self, error: ProviderError) -> CallFailed:
        """The client's error for a provider's: that the deadline has passed, where it has, as that is the cause."""
        return exceeded() if self.left <= 0 else client_error(error)


def exceeded() -> CallFailed:
    """The client's error where no answer came in time."""
    return CallFailed(
        "There was no answer in time. Ask for less in one request, or for a shorter answer.",
        status=504,
        code="deadline_exceeded",
    )


def now() -> float:
    """The running event loop's clock, seconds."""
    return asyncio.get_running_loop().time()
