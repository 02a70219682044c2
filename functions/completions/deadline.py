"""When everything must have ended: before API Gateway stops waiting, which it began to do when the request arrived."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from manifold.errors import CallFailed

MARGIN_SECONDS = 1.0
"""What is left of API Gateway's patience when the last call ends: to write the answer, and to carry it there."""


@dataclass(frozen=True, slots=True)
class Deadline:
    at: float
    """By the running event loop's clock, seconds."""

    @classmethod
    def of(cls, event: Mapping[str, Any] | None, timeout: float) -> "Deadline":
        """That of a request which API Gateway gives up `timeout` seconds after it arrived; without an event, now."""
        arrived = ((event or {}).get("requestContext") or {}).get("requestTimeEpoch")
        waited = max(0.0, time.time() - arrived / 1000) if arrived else 0.0
        return cls(asyncio.get_running_loop().time() + timeout - MARGIN_SECONDS - waited)

    @property
    def left(self) -> float:
        """Seconds; none or less once it has passed."""
        return self.at - asyncio.get_running_loop().time()

    def within(self, seconds: float | None) -> "Deadline":
        """This one, or `seconds` from now if that is sooner."""
        if seconds is None:
            return self
        return replace(self, at=min(self.at, asyncio.get_running_loop().time() + seconds))


def exceeded() -> CallFailed:
    """What stands in the place of an answer that did not come in time."""
    return CallFailed(
        "There was no answer in time. Ask for less in one request, or for a shorter answer.",
        status=504,
        code="deadline_exceeded",
    )
