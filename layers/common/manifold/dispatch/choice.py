"""Which deployment gets a call: by the routing strategy, and none that is in cooldown while another one is not.

What environments must know of each other is in Postgres. `simple-shuffle` and `cost-based-routing` read none of it, and
write only of deployments on which the gateway also runs batches, which make way for these calls. A failure is one
statement, which also returns the deployments that are in cooldown; a failure that can change nothing, as there is no
other deployment to try, is none.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from random import Random

from manifold import ids, observe, routing
from manifold.config import Deployment, RouterSettings
from manifold.dispatch.attempts import Attempt, Failure
from manifold.dispatch.cooldown import Cooldowns, cooldown_rule
from manifold.dispatch.deadline import now
from manifold.dispatch.token_usage import tokens_of
from manifold.errors import CallFailed, ManifoldError
from manifold.prices import Prices, Tokens
from manifold.routing import Load
from manifold.store import Store
from manifold.store.traffic import Ended

LIMITS_WAIT = 30.0
"""Seconds: half of the minute that `rpm` and `tpm` are of."""
MINUTE = 60.0
"""Seconds for which the usage of deployments counts of which none was ever called: the database has no row to tell."""
NONE_AVAILABLE = "no_deployment_available"
"""The code of a group whose deployments are all in cooldown."""
_BY_MINUTE = frozenset({"usage-based-routing", "usage-based-routing-v2"})
_COUNTS_CALLS = _BY_MINUTE | {"least-busy"}
_WATCHES = _COUNTS_CALLS | {"latency-based-routing"}


class Chooser:
    """What one environment knows of its deployments between requests; each request has its own `Choices`.

    `max_seconds` is how long a request may last: its calls count as under way for no longer.
    """

    def __init__(self, settings: RouterSettings, store: Store, prices: Prices, max_seconds: float) -> None:
        self.settings = settings
        self.store = store
        self.prices = prices
        self.max_seconds = max_seconds
        self.cooldowns = Cooldowns()
        self.random = Random()
        self.costs: dict[str, Load] = {}


class Choices:
    """The choices of one request, which knows of its own calls what the database does not know yet.

    The router asks it for each attempt's deployment (`choose`), and tells it how each attempt ended (`note`, `failed`).
    `choose` raises `Unavailable` where the strategy reads the database, and it cannot be reached.
    """

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._strategy = chooser.settings.routing_strategy
        self._loads: dict[str, Load] = {}
        self._loads_end = math.inf
        self._reading = asyncio.Lock()
        self._lease = ""
        self._begun: dict[str, int] = defaultdict(int)
        self._ended: dict[str, list[Attempt]] = defaultdict(list)

    async def choose(self, candidates: Sequence[Deployment]) -> Deployment | None:
        """The deployment to try, whose call counts from now on; `None` if each has reached its `rpm` or `tpm`."""
        await self._load(candidates)
        usable = self._chooser.cooldowns.usable(candidates) or candidates
        chosen = routing.choose(self._strategy, usable, self._loads, self._chooser.random)
        if chosen is not None and (self._strategy in _COUNTS_CALLS or chosen.shares_limits):
            await self._begin(chosen)
        return chosen

    def all_in_cooldown(self, candidates: Sequence[Deployment]) -> bool:
        """Whether each of them is in cooldown, as far as this environment knows."""
        return not self._chooser.cooldowns.usable(candidates)

    def note(self, attempt: Attempt) -> None:
        """Note that a call has ended, as the strategy's numbers of this request need it."""
        if self._strategy in _WATCHES or attempt.deployment.shares_limits:
            self._ended[attempt.deployment.id].append(attempt)
        load = self._loads.get(attempt.deployment.id)
        if load is not None:
            self._loads[attempt.deployment.id] = load._replace(busy=max(0, load.busy - 1))

    async def failed(self, deployment: Deployment, error: Failure) -> None:
        """Count a failure of a deployment, where another one could be tried in its place."""
        rule = cooldown_rule(self._chooser.settings, error)
        if rule is None:
            return
        try:
            async with self._chooser.store.session() as tables:
                seconds_left = await tables.traffic.failed(deployment.id, rule.allowed_fails, rule.seconds)
        except ManifoldError as fault:  # it is about the next calls, not about this one
            observe.fault(fault)
        else:
            self._chooser.cooldowns.learn(seconds_left)

    async def close(self) -> None:
        """Write down how the calls ended, by one statement, if the strategy reads it."""
        if not self._begun and not self._ended:
            return
        by_deployment = {
            deployment_id: _sum(self._ended.get(deployment_id, ())) for deployment_id in {*self._begun, *self._ended}
        }
        try:
            async with self._chooser.store.session() as tables:
                await tables.traffic.ended(self._lease, by_deployment)
        except ManifoldError as fault:  # the answers are there
            observe.fault(fault)

    async def _load(self, candidates: Sequence[Deployment]) -> None:
        """Have the load of each, if the strategy compares them: once a request, or once in each of its minutes."""
        if self._strategy == "simple-shuffle":
            return
        async with self._reading:
            if now() >= self._loads_end:
                self._loads.clear()
                self._loads_end = math.inf
            unknown = [one for one in candidates if one.id not in self._loads]
            if unknown and self._strategy == "cost-based-routing":
                await asyncio.to_thread(self._price, unknown)
            elif unknown:
                await self._read([one.id for one in unknown])

    async def _read(self, deployment_ids: Sequence[str]) -> None:
        began = now()
        async with self._chooser.store.session() as tables:
            stats = await tables.traffic.stats(deployment_ids)
        self._chooser.cooldowns.learn({one.deployment_id: one.cooldown for one in stats})
        self._loads.update(dict.fromkeys(deployment_ids, Load()) | {one.deployment_id: one.load for one in stats})
        if self._strategy in _BY_MINUTE:
            minute_left = stats[0].minute_left if stats else MINUTE
            self._loads_end = min(self._loads_end, began + minute_left)

    def _price(self, deployments: Sequence[Deployment]) -> None:
        costs = self._chooser.costs
        for one in deployments:
            if one.id not in costs:
                cost = self._chooser.prices.of(one, Tokens(1_000_000, 1_000_000))
                costs[one.id] = Load(cost=None if cost is None else float(cost) / 1_000_000)
            self._loads[one.id] = costs[one.id]

    async def _begin(self, chosen: Deployment) -> None:
        load = self._loads.get(chosen.id)
        if load is not None:
            self._loads[chosen.id] = load._replace(busy=load.busy + 1, requests=load.requests + 1)
        self._lease = self._lease or ids.new("call")
        self._begun[chosen.id] += 1
        under_way = self._begun[chosen.id] - len(self._ended[chosen.id])
        async with self._chooser.store.session() as tables:
            await tables.traffic.began(chosen.id, self._lease, under_way, self._chooser.max_seconds)


def at_limits(group: str) -> CallFailed:
    """The client's error where each deployment has reached the `rpm` or `tpm` of its own."""
    return CallFailed(
        f"Each deployment of '{group}' has reached its limit for this minute: try again later.",
        status=429,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=LIMITS_WAIT,
    )


def none_available(group: str) -> CallFailed:
    """Why a group is skipped while another one could answer: each of its deployments is in cooldown."""
    message = f"Each deployment of '{group}' has just failed: try again later."
    return CallFailed(message, status=503, code=NONE_AVAILABLE)


def _sum(attempts: Sequence[Attempt]) -> Ended:
    tokens, latencies = 0, []
    for attempt in attempts:
        used = tokens_of(attempt.usage or {})
        tokens += used.input + used.output
        if attempt.error is None:
            latencies.append(attempt.seconds / max(1, used.output))
    return Ended(tokens, sum(latencies) / len(latencies) if latencies else None)
