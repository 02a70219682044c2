"""Who may make how many calls, and what became of each: the seam to limits, spend and the state of routing."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from manifold.access import Caller
from manifold.config import Deployment
from manifold.errors import InvalidRequest, ProviderError
from manifold.providers.chat import Route


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call that a deployment answered or refused. One that was cancelled is none: nobody knows what it cost."""

    deployment: Deployment
    route: Route
    seconds: float
    usage: Mapping[str, Any] | None = None
    """OpenAI's usage object; `None` where the call failed, or the provider did not say."""
    error: ProviderError | InvalidRequest | None = None


Report = Callable[[Attempt], None]


class Ledger(Protocol):
    def admitted(self, caller: Caller, groups: Sequence[str]) -> AbstractAsyncContextManager[Report]:
        """Admit one call to each of `groups` (a group as often as it is called) or raise, before any call is made.

        Every attempt is reported to what this yields. What is to be kept of them is kept when the context ends, which
        is before the response has gone.
        """
        ...


class OpenLedger:
    """A `Ledger` that admits everybody and keeps nothing."""

    @asynccontextmanager
    async def admitted(self, caller: Caller, groups: Sequence[str]) -> AsyncIterator[Report]:
        yield _forget


def _forget(attempt: Attempt) -> None:
    pass
