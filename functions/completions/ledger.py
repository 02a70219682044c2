"""Which calls a caller may make, and the record of each: admitted before the first call, written after the last.

A caller without limits costs one statement a request, the one that writes the calls down. Limits cost one more.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

from manifold import ids, limits, observe
from manifold.access import Caller
from manifold.dispatch.attempts import Attempt, Report
from manifold.dispatch.token_usage import tokens_of
from manifold.errors import ManifoldError
from manifold.prices import Prices, Tokens
from manifold.reported_cost import cost_of
from manifold.store import Store
from manifold.store.calls import CallRecord


class Ledger:
    """Admits and records the calls of one environment's requests. Each request's scope opens `admitted` once.

    `max_seconds` is how long a request may last: its calls count as under way for no longer.
    """

    def __init__(self, store: Store, prices: Prices, max_seconds: float) -> None:
        self._store = store
        self._prices = prices
        self._max_seconds = max_seconds

    @asynccontextmanager
    async def admitted(self, caller: Caller, groups: Sequence[str]) -> AsyncIterator[Report]:
        """Admit one call to each of `groups` (a group as often as it is called), or raise before any call is made.

        `TooManyRequests` or `BudgetExceeded` says which limit of key, user or team does not allow all of them. The
        context is given a function that takes every attempt. When it ends, before the response has gone, one statement
        writes them all; if that fails, the fault is logged, and the answers leave nevertheless: they are paid for.
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
            statuses = await tables.meters.admit(caller.limited, calls, lease, self._max_seconds)
        refused = limits.refusal(caller.limited, statuses, calls)
        if refused is not None:
            raise refused

    async def _record(self, caller: Caller, attempts: Sequence[Attempt], lease: str) -> None:
        if not attempts and not caller.limited:
            return
        calls = [self._call(attempt) for attempt in attempts]
        try:
            async with self._store.session() as tables:
                await tables.calls.record(calls, caller, lease)
        except ManifoldError as error:
            observe.fault(error, calls=str(len(calls)))

    def _call(self, attempt: Attempt) -> CallRecord:
        usage = attempt.usage or {}
        tokens = tokens_of(usage)
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
            reasoning_tokens=tokens.reasoning,
            cost=self._cost(attempt, tokens),
            seconds=attempt.seconds,
        )

    def _cost(self, attempt: Attempt, tokens: Tokens) -> Decimal | None:
        """What the provider says that the call cost, else by the price list; `None` if neither is known."""
        if not attempt.usage:
            return None
        reported = cost_of(attempt.deployment.provider, attempt.usage)
        return self._prices.of(attempt.deployment, tokens) if reported is None else reported


def _status(attempt: Attempt) -> int:
    return 200 if attempt.error is None else attempt.error.status or 0
