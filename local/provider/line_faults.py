"""Lines that fail within a job that does not: rate limits, faults of the server, lines that ran out of time."""

from collections import Counter

from pydantic import BaseModel, ConfigDict, Field

from local.provider.line_shape import Unanswered
from local.provider.refusal import Refusal


class LineFault(BaseModel):
    """Which lines fail, and how. The conditions hold together; without one, every line fails."""

    model_config = ConfigDict(extra="forbid")

    status: int | None = 429
    """The status of the line's response; `None`: the line has no response, but an `error` with `code`."""
    code: str = "rate_limit_exceeded"
    message: str = "The simulated provider was told to do this."
    every: int = Field(default=1, ge=1)
    """Each line whose number, from 1, this divides."""
    marker: str | None = None
    """The lines that have these words anywhere."""
    tries: int | None = None
    """Only the first so many times that this request meets such a fault, in any job of any account. With OpenAI's lines
    a request is known by its `custom_id`, with others by its body (`LineShape.tried`)."""


class LineFaults:
    """The fault of one job's lines. `tries` counts over jobs by request, and only where the fault counts."""

    def __init__(self, fault: LineFault, tries: "Counter[str]") -> None:
        self._fault = fault
        self._marker = None if fault.marker is None else fault.marker.encode()
        self._tries = tries

    def strike(self, number: int, raw: bytes, request: str) -> Unanswered | None:
        """Why a line gets no response; `None` for a line that is answered. Raises the `Refusal` that is
        the answer of any other line that fails."""
        fault = self._fault
        if number % fault.every or (self._marker is not None and self._marker not in raw):
            return None
        if fault.tries is not None:
            self._tries[request] += 1
            if self._tries[request] > fault.tries:
                return None
        if fault.status is None:
            return Unanswered(fault.code, fault.message)
        raise Refusal(fault.status, fault.code, fault.message)
