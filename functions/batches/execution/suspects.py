"""Requests whose calls failed by a fault of the provider: each is failed only once the provider answers others.

A provider that is down fails no request: those wait until it is up again, or until the batch's window is over. Pure.
"""

from batches.execution.line_calls import Outcome, Request


class Suspects:
    """The suspects of one run. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._failed: list[tuple[float, Request, Outcome]] = []

    def __bool__(self) -> bool:
        return bool(self._failed)

    def add(self, request: Request, outcome: Outcome, at: float) -> None:
        """Note a request that failed at this time."""
        self._failed.append((at, request, outcome))

    def answered(self, begun: float) -> list[tuple[Request, Outcome]]:
        """Note an answer to a call that began at this time. Returns those that failed before: the fault is theirs."""
        proven = [(request, outcome) for at, request, outcome in self._failed if at <= begun]
        self._failed = [one for one in self._failed if one[0] > begun]
        return proven
