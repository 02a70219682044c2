"""Who may make how many calls, and what became of each: admitted before the first call, written down after the last.

A caller without limits costs one statement a request, the one that writes the calls down. Limits cost one more.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from manifold import ids, limits, observe, storable
from manifold.access import Caller
from manifold.config import Deployment
from manifold.errors import ManifoldError, ProviderError
from manifold.prices import Prices, Tokens
from manifold.providers.chat import Route
from manifold.store import Store
from manifold.store.calls import CallRecord


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call that was sent to a deployment, whatever ended it."""

    deployment: Deployment
    route: Route
    seconds: float
    usage: Mapping[str, Any] | None = None
    """OpenAI's usage object, or an estimate where the provider told none; `None` of a call that it refused."""
    error: ProviderError | ManifoldError | None = None
    """Also the gateway's own, which cut a stream short."""


Report = Callable[[Attempt], None]


def both(one: Report, other: Report) -> Report:
    """Reports to the one and to the other."""

    def report(attempt: Attempt) -> None:
        one(attempt)
        other(attempt)

    return report


class Ledger:
    """The books of a gateway. `patience` is how long, in seconds, a request may last at most."""

    def __init__(self, store: Store, prices: Prices, patience: float) -> None:
        self._store = store
        self._prices = prices
        self._patience = patience

    @asynccontextmanager
    async def admitted(self, caller: Caller, groups: Sequence[str]) -> AsyncIterator[Report]:
        """Admit one call to each of `groups` (a group as often as it is called), or raise before any call is made.

        `TooManyRequests` or `BudgetExceeded` says which limit of key, user or team does not allow all of them. Every
        attempt is reported to what this yields, and written down when the context ends, before the response has gone.
        """
        lease = ids.new("call") if caller.limited else ""
        await self._admit(caller, len(groups), lease)
        self._prices.read()
        attempts: list[Attempt] = []
        try:
            yield attempts.append
        finally:
            await self._record(caller, attempts, lease)

    async def _admit(self, caller: Caller, calls: int, lease: str) -> None:
        if not caller.limited:
            return
        async with self._store.session() as tables:
            standings = await tables.meters.admit(caller.limited, calls, lease, self._patience)
        refused = limits.refusal(caller.limited, standings, calls)
        if refused is not None:
            raise refused

    async def _record(self, caller: Caller, attempts: Sequence[Attempt], lease: str) -> None:
        if not attempts and not caller.limited:
            return
        calls = [self._call(attempt) for attempt in attempts]
        try:
            async with self._store.session() as tables:
                await tables.calls.record(calls, caller, lease)
        except ManifoldError as error:  # the answers are paid for, and the client gets them
            observe.fault(error, calls=str(len(calls)))

    def _call(self, attempt: Attempt) -> CallRecord:
        tokens = used(attempt.usage or {})
        return CallRecord(
            id=ids.new("call"),
            model_group=attempt.deployment.group,
            deployment_id=attempt.deployment.id,
            route=attempt.route,
            status=_status(attempt),
            error=attempt.error.code if attempt.error else None,
            input_tokens=tokens.input,
            cached_tokens=tokens.cached,
            output_tokens=tokens.output,
            reasoning_tokens=storable.count(
                _part(attempt.usage or {}, "completion_tokens_details").get("reasoning_tokens")
            ),
            cost=self._prices.of(attempt.deployment, tokens) if attempt.usage else None,
            seconds=attempt.seconds,
        )


def used(usage: Mapping[str, Any]) -> Tokens:
    """The tokens of OpenAI's usage object, as far as it can be read and is plausible: never fewer than none."""
    cache = _part(usage, "prompt_tokens_details")
    return Tokens(
        storable.count(usage.get("prompt_tokens")),
        storable.count(usage.get("completion_tokens")),
        cached=storable.count(cache.get("cached_tokens")),
        written=storable.count(cache.get("cache_write_tokens")),
        written_1h=storable.count(cache.get("cache_write_1h_tokens")),
    )


def _status(attempt: Attempt) -> int:
    return 200 if attempt.error is None else attempt.error.status or 0


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = of.get(name)
    return part if isinstance(part, dict) else {}
