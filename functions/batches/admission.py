"""How batches take their part of the limits of their key, user and team: at the create, or later if they wait.

Both lock the holders' rows of `meters`, in one order, before they read what open batches hold. So two batches never
take the same rest, and a caller without limits of batches pays nothing. docs/decisions/0023-batch-limits.md
"""

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

from batches.owner_limits import Need, over_budget, refusal, shortages, too_large
from manifold import limits
from manifold.access import Caller
from manifold.announcement import WOKEN_TOGETHER, wake_waiting
from manifold.batch_estimate import BatchEstimate
from manifold.config import Config
from manifold.jsonl.report import Report
from manifold.queue import Queue
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, NewBatch

if TYPE_CHECKING:
    from manifold.prices import Prices

BYTES_A_TOKEN = 4
"""For a file that was uploaded before tokens were estimated."""
WAIT_SECONDS, MAX_WAIT_SECONDS = 60.0, 600.0
"""Pause of a batch that waits for an owner's limit, in the first place of its line, and in the last."""


class Reserving:
    """Reserves what a new batch takes, in the transaction that writes it. Holds the configuration and the prices."""

    def __init__(self, config: Config, prices: "Prices") -> None:
        self._config = config
        self._prices = prices

    async def reserve(self, tables: Tables, caller: Caller, batch: NewBatch, report: Report) -> NewBatch:
        """The batch with its reservation, and with the holder for whose limit it has to wait.

        Raises `BudgetExceeded`, `InvalidRequest` if a limit can never take it, and `TooManyRequests` if one that does
        not let batches wait has no room for it now.
        """
        estimate, limited = BatchEstimate.of(report), caller.batch_limited
        tokens = estimate.input_tokens if estimate else report.bytes // BYTES_A_TOKEN
        need = Need(tokens, report.lines)
        if limited:
            if estimate and any(one.limits.max_budget is not None for one in limited):
                cost = await asyncio.to_thread(self._cost, batch, estimate)
                need = need._replace(cost=cost, with_output=estimate.output_tokens is not None)
            held_for = await _admit(tables, caller, need)
            batch = batch._replace(held_for=held_for)
        return batch._replace(reserved_tokens=need.tokens, reserved_requests=need.requests, reserved_cost=need.cost)

    def _cost(self, batch: NewBatch, estimate: BatchEstimate) -> Decimal | None:
        """US dollars at the dearest deployment that may run it, as far as prices are known.

        What is too small for a provider is priced as the gateway would run it there.
        """
        of_groups = [one for group in batch.groups for one in self._config.groups.get(group, ()) if one.runs_batches]
        deployments = [
            one.executed_by("gateway")
            if estimate.requests < one.limits.fewest_requests and batch.endpoint in one.completion_endpoints
            else one
            for one in of_groups
        ]
        known = [cost for one in deployments if (cost := estimate.costs(one, self._prices)) is not None]
        return max((cost if most is None else most for cost, most in known), default=None)


async def _admit(tables: Tables, caller: Caller, need: Need) -> str | None:
    """The subject for whose limit the batch has to wait; `None` if there is room, which its row then takes."""
    limited = caller.batch_limited
    impossible = too_large(limited, need)
    if impossible is not None:
        raise impossible
    statuses = await tables.meters.admit(limited, 0, "", 0)
    used_up = limits.refusal(limited, statuses, 0)
    if used_up is not None:
        raise used_up
    outstanding = await tables.reservations.outstanding(limited)
    exceeded = over_budget(limited, statuses, outstanding, need)
    if exceeded is not None:
        raise exceeded
    short = list(shortages(limited, outstanding, need))
    for one in short:
        if one.refuses:
            raise refusal(one)
    return short[0].holder.subject if short else None


class WaitingLine:
    """Lets batches start that wait for an owner's limit: first come, first served. Used by the engine.

    Holds no state of a batch: whether it waits is in its row (`held_for`).
    """

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    async def admit(self, batch: BatchRow) -> float | None:
        """Let a batch whose lease we hold start if there is room; else the seconds to the next attempt."""
        need = Need(batch.reserved_tokens, batch.reserved_requests)
        async with self._store.transaction() as tables:
            limited = await tables.reservations.limited(batch)
            short = None
            if limited:
                await tables.meters.admit(limited, 0, "", 0)
                outstanding = await tables.reservations.outstanding(limited, before=batch)
                short = next(shortages(limited, outstanding, need), None)
            subject = short.holder.subject if short else None
            if not await tables.reservations.hold(batch, subject):
                return 0  # cancelled meanwhile
        if subject != batch.held_for:
            await wake_waiting(self._store, self._queue, batch.id)
        if short is None:
            return None
        return min(WAIT_SECONDS * (1 + short.waiting // WOKEN_TOGETHER), MAX_WAIT_SECONDS, max(batch.left, 0))
