"""The requests of a run that have no result yet: which is called next, and which have failed how often. Pure.

A call that fails may be the provider's fault or the request's own. It counts against the request once the provider has
answered a call that began later. So a provider that is down, and answers nothing, fails no request: what is not proven
by the end of a run is called again in the next one.

Requests are called in laps: one that is to be called again waits until each other one was called.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from batches.execution.line_calls import Outcome, Request

FRUITLESS_LAPS = 2
"""After so many laps without an answer, in which the provider wanted no call of all that are left, it is probed."""


class _Suspect(NamedTuple):
    request: Request
    outcome: Outcome
    failed_at: float
    alone: bool


class Backlog:
    """The requests of one run. Times are of one clock, in seconds.

    `most_failures` are the failed calls after which a request has failed, `failures` those of earlier runs, by the
    request's number.
    """

    def __init__(self, most_failures: int, failures: Mapping[int, int]) -> None:
        self.failures = dict(failures)
        """The failed calls that count against each request which has no result, of those that were called in vain."""
        self.laps = 0
        """How many have ended."""
        self._most_failures = most_failures
        self._pending = deque[Request]()
        self._suspects = list[_Suspect]()
        self._again = list[Request]()
        self._busy = 0
        self._has_answers = False
        self._fruitless = 0

    def __len__(self) -> int:
        """How many requests have no result, but for those whose calls are under way."""
        return len(self._pending) + len(self._suspects) + len(self._again)

    @property
    def pending(self) -> int:
        """How many are still to be called in this lap."""
        return len(self._pending)

    @property
    def has_suspects(self) -> bool:
        """Whether some have failed, and it is open whose fault that is."""
        return bool(self._suspects)

    @property
    def is_fruitless(self) -> bool:
        """Whether the provider, lap after lap, wants no call of all that are left."""
        return self._is_all_busy and self._fruitless + 1 >= FRUITLESS_LAPS

    def add(self, requests: Iterable[Request]) -> None:
        """Take requests. Those come last that were called in vain, as one may break or block the server for all."""
        self._pending.extend(sorted(requests, key=lambda request: request.number in self.failures))

    def next(self) -> Request:
        """The request to be called next. What becomes of it is to be said by one of the methods below."""
        return self._pending.popleft()

    def put_back(self, request: Request) -> None:
        """It was not called."""
        self._pending.appendleft(request)

    def ended(self, request: Request) -> None:
        """It has its result."""
        self.failures.pop(request.number, None)

    def busy(self, request: Request) -> None:
        """The provider wants no calls now."""
        self._again.append(request)
        self._busy += 1
        self.failures.setdefault(request.number, 0)

    def failed(self, request: Request, outcome: Outcome, at: float, *, alone: bool = False) -> None:
        """Its call failed at this time; `alone`: no other was under way, and the one before was answered."""
        self._suspects.append(_Suspect(request, outcome, at, alone))
        self.failures.setdefault(request.number, 0)

    def answered(self, begun: float, *, probe: bool = False) -> list[Outcome]:
        """Note that the provider answered a call which began at this time. Returns the outcomes of those requests that
        have failed by that."""
        self._has_answers |= not probe
        return self._blamed([one for one in self._suspects if one.failed_at <= begun])

    def unanswered(self) -> list[Outcome]:
        """Note that the provider answers nothing. Counts against the request that was called alone as this began;
        returns its outcome, if it has failed by that."""
        return self._blamed([one for one in self._suspects if one.alone])

    def next_lap(self) -> None:
        """Have those called that are to be called again."""
        self._fruitless = self._fruitless + 1 if self._is_all_busy else 0
        self._pending.extend(self._again)
        self._again.clear()
        self._busy = 0
        self._has_answers = False
        self.laps += 1

    @property
    def _is_all_busy(self) -> bool:
        return not self._has_answers and bool(self._again) and self._busy == len(self._again)

    def _blamed(self, suspects: Sequence[_Suspect]) -> list[Outcome]:
        self._suspects = [one for one in self._suspects if one not in suspects]
        return [one.outcome for one in suspects if self._has_failed(one.request)]

    def _has_failed(self, request: Request) -> bool:
        count = self.failures[request.number] = self.failures.get(request.number, 0) + 1
        if count < self._most_failures:
            self._again.append(request)
            return False
        self.ended(request)
        return True
