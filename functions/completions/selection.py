"""Which deployment gets a call: by the strategy, and none that has just failed too often.

What environments must know of each other is in Postgres. `simple-shuffle` and `cost-based-routing` ask for none of it.
A failure is one statement, which also tells which deployments fail for the others; a failure that can change nothing,
as there is no other deployment, is none.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

from completions.deadline import Cut, TimedOut
from completions.ledger import Attempt, used
from manifold import ids, observe, routing
from manifold.config import Deployment, RouterSettings
from manifold.errors import CALLERS_STATUSES, TIMEOUT, InvalidRequest, ManifoldError, ProviderError
from manifold.prices import Prices, Tokens
from manifold.routing import Load
from manifold.store import Store
from manifold.store.traffic import Ended

ALLOWED_FAILS = 3
"""Failures within a minute after which a deployment is still asked, as in LiteLLM."""
IMMEDIATE_STATUSES = frozenset({401, 402, 404, 429})
"""What another try soon would not change; it counts like any other failure where `allowed_fails` is set."""
TIMEOUT_FACTOR = 2.0
"""As many times the time that a deployment was waited for in vain, it is left alone: another request, in which another
deployment hangs for as long, does not come back to it."""
MAX_COOLDOWN = 300.0
"""Seconds for which a provider's `Retry-After` is believed."""
_COUNTS_CALLS = frozenset({"least-busy", "usage-based-routing", "usage-based-routing-v2"})
_WATCHES = _COUNTS_CALLS | {"latency-based-routing"}


class Cooldowns:
    """What this environment knows of failing deployments. Times are the event loop's."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def learn(self, seconds_left: dict[str, float]) -> None:
        """Keep these deployments in cooldown for so many seconds each."""
        for deployment_id, seconds in seconds_left.items():
            self._until[deployment_id] = _now() + seconds

    def usable(self, candidates: Sequence[Deployment]) -> Sequence[Deployment]:
        """Those that are not in cooldown."""
        return [one for one in candidates if self._until.get(one.id, 0.0) <= _now()]


class Selector:
    """The choices of one environment. `patience` is how long, in seconds, a request may last at most."""

    def __init__(self, settings: RouterSettings, store: Store, prices: Prices, patience: float) -> None:
        self.settings = settings
        self.store = store
        self.prices = prices
        self.patience = patience
        self.cooldowns = Cooldowns()
        self.random = Random()
        self.costs: dict[str, Load] = {}

    @asynccontextmanager
    async def selection(self) -> AsyncIterator["Selection"]:
        """The choices of one request; what became of them is written down when it ends."""
        selection = Selection(self)
        try:
            yield selection
        finally:
            await selection.close()


class Selection:
    """The choices of one request, which knows of its own calls what the database does not know yet."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._strategy = selector.settings.routing_strategy
        self._loads: dict[str, Load] = {}
        self._reading = asyncio.Lock()
        self._lease = ids.new("call") if self._strategy in _COUNTS_CALLS else ""
        self._begun: Counter[str] = Counter()
        self._ended: dict[str, list[Attempt]] = defaultdict(list)

    async def choose(self, candidates: Sequence[Deployment]) -> Deployment | None:
        """The deployment to ask, whose call counts from now on; `None` if none has room for it."""
        await self._load(candidates)
        usable = self._selector.cooldowns.usable(candidates) or candidates
        chosen = routing.choose(self._strategy, usable, self._loads, self._selector.random)
        if chosen is not None and self._strategy in _COUNTS_CALLS:
            await self._begin(chosen)
        return chosen

    def failing(self, candidates: Sequence[Deployment]) -> bool:
        """Whether each of them is in cooldown, as far as this environment knows."""
        return not self._selector.cooldowns.usable(candidates)

    def note(self, attempt: Attempt) -> None:
        """A call has ended."""
        if self._strategy in _WATCHES:
            self._ended[attempt.deployment.id].append(attempt)
        load = self._loads.get(attempt.deployment.id)
        if load is not None:
            self._loads[attempt.deployment.id] = replace(load, busy=max(0, load.busy - 1))

    async def failed(self, deployment: Deployment, error: ProviderError | InvalidRequest) -> None:
        """Count a failure of a deployment that another could stand in for."""
        if isinstance(error, InvalidRequest | Cut) or error.status in CALLERS_STATUSES:
            return
        settings, hung = self._selector.settings, error.code == TIMEOUT
        allowed = ALLOWED_FAILS if settings.allowed_fails is None else settings.allowed_fails
        if settings.allowed_fails is None and (hung or error.status in IMMEDIATE_STATUSES):
            allowed = 0
        waited = error.seconds if isinstance(error, TimedOut) else 0.0
        least = max(settings.cooldown_time, TIMEOUT_FACTOR * waited)
        cooldown = min(error.retry_after or least, MAX_COOLDOWN)
        try:
            async with self._selector.store.session() as tables:
                self._selector.cooldowns.learn(await tables.traffic.failed(deployment.id, allowed, cooldown))
        except ManifoldError as fault:  # it is about the next calls, not about this one
            observe.fault(fault)

    async def close(self) -> None:
        """Write down what became of the calls, by one statement, if the strategy wants to know."""
        touched = {
            deployment_id: _sum(self._ended.get(deployment_id, ())) for deployment_id in {*self._begun, *self._ended}
        }
        if not touched:
            return
        try:
            async with self._selector.store.session() as tables:
                await tables.traffic.ended(self._lease, touched)
        except ManifoldError as fault:  # the answers are there
            observe.fault(fault)

    async def _load(self, candidates: Sequence[Deployment]) -> None:
        if self._strategy == "simple-shuffle":
            return
        async with self._reading:
            unknown = [one for one in candidates if one.id not in self._loads]
            if unknown and self._strategy == "cost-based-routing":
                await asyncio.to_thread(self._price, unknown)
            elif unknown:
                await self._read([one.id for one in unknown])

    async def _read(self, deployment_ids: Sequence[str]) -> None:
        async with self._selector.store.session() as tables:
            known = await tables.traffic.stats(deployment_ids)
        self._selector.cooldowns.learn({one.deployment_id: one.cooldown for one in known})
        self._loads.update(dict.fromkeys(deployment_ids, Load()) | {one.deployment_id: one.load for one in known})

    def _price(self, deployments: Sequence[Deployment]) -> None:
        costs = self._selector.costs
        for one in deployments:
            if one.id not in costs:
                cost = self._selector.prices.of(one, Tokens(1_000_000, 1_000_000))
                costs[one.id] = Load(cost=None if cost is None else float(cost) / 1_000_000)
            self._loads[one.id] = costs[one.id]

    async def _begin(self, chosen: Deployment) -> None:
        load = self._loads[chosen.id]
        self._loads[chosen.id] = replace(load, busy=load.busy + 1, requests=load.requests + 1)
        self._begun[chosen.id] += 1
        async with self._selector.store.session() as tables:
            await tables.traffic.began(chosen.id, self._lease, self._begun[chosen.id], self._selector.patience)


def _sum(attempts: Sequence[Attempt]) -> Ended:
    tokens, latencies = 0, []
    for attempt in attempts:
        taken = used(attempt.usage or {})
        tokens += taken.input + taken.output
        if attempt.error is None:
            latencies.append(attempt.seconds / max(1, taken.output))
    return Ended(tokens, sum(latencies) / len(latencies) if latencies else None)


def _now() -> float:
    return asyncio.get_running_loop().time()
