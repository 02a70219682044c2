"""Which calls a caller may make, and the record of each: admitted before the first call, written after the last.

A caller whose key is remembered costs one statement a request: the one that writes the calls down also says what the
key may do now, and an answer that it may no longer have does not leave. Limits cost one more, and so does an answer
that leaves piece by piece, whose key is verified before the first piece, or one that may come of a fallback.
"""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

from manifold import ids, limits, observe
from manifold.access import Caller
from manifold.auth import KeyMemory
from manifold.dispatch.attempts import Attempt
from manifold.dispatch.deadline import now
from manifold.dispatch.token_usage import tokens_of
from manifold.errors import AuthenticationFailed, ManifoldError, PermissionDenied, Unavailable
from manifold.prices import Prices, Tokens
from manifold.reported_cost import cost_of
from manifold.store import Store
from manifold.store.calls import CallRecord

VERIFIED_SECONDS = 5.0
"""After so long a key is verified again before the next call of an array begins."""


class Admission:
    """The calls of one request that the ledger has admitted, and whether its key may still have what comes of them.

    The router's `Access` (`manifold.dispatch.router`).
    """

    def __init__(self, keys: KeyMemory, caller: Caller, groups: Sequence[str], lease: str = "") -> None:
        self.caller = caller
        """As it was admitted: its limits are those that the record counts for."""
        self.lease = lease
        self.attempts: list[Attempt] = []
        self.is_verified = caller.credential is None or not caller.credential.remembered
        """Whether what the key may do was looked up for this request."""
        self.is_leaving = False
        """Whether the answer leaves before its calls are recorded."""
        self._keys = keys
        self._known = caller
        self._groups = groups
        self._asked = set[str]()
        self._looking_up = asyncio.Lock()
        self._known_at = now()
        self._refusal: ManifoldError | None = None

    def may_use(self, group: str) -> bool:
        """Whether the caller may use a fallback group, by what is known by now."""
        self._asked.add(group)
        return self._known.may_use(group)

    def report(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    async def verify(self) -> None:
        """Verify the key before the first piece of an answer leaves. Raises as `check` does."""
        self.is_leaving = True
        await self.refresh()

    async def refresh(self) -> None:
        """Have what the key may do, unless it was looked up for this request. Raises as `check` does."""
        if not self.is_verified:
            async with self._looking_up:
                if not self.is_verified:
                    await self._look_up()
                    self.is_verified = True

    async def renew(self) -> None:
        """Verify the key again before another call begins, if it was `VERIFIED_SECONDS` ago. Raises as `check` does.

        One call looks it up; those that begin meanwhile go by what was known.
        """
        if self._refusal is not None:
            raise self._refusal
        if now() - self._known_at >= VERIFIED_SECONDS:
            await self._look_up()

    async def _look_up(self) -> None:
        self._known_at = now()
        if self.caller.credential is None:
            return
        try:
            self._known = await self._keys.look_up(self.caller.credential.token_hash)
            self._known.require(self._needed)
        except (AuthenticationFailed, PermissionDenied) as error:
            self._refusal = error
            raise

    def check(self, grant: str | None) -> Caller:
        """The caller by what its key may do now.

        Raises `AuthenticationFailed` or `PermissionDenied` where it may no longer have what it asked for.
        """
        if self.caller.credential is None:
            return self.caller
        caller = self._keys.note(self.caller.credential.token_hash, grant)
        caller.require(self._needed)
        return caller

    @property
    def _needed(self) -> list[str]:
        """The groups of the request, and those of its answers that it was asked about."""
        answered = {attempt.deployment.group for attempt in self.attempts if attempt.error is None}
        return [*self._groups, *sorted(answered & self._asked)]


class Ledger:
    """Admits and records the calls of one environment's requests. Each request's scope admits and records once.

    `max_seconds` is how long a request may last: its calls count as under way for no longer.
    """

    def __init__(self, store: Store, keys: KeyMemory, prices: Prices, max_seconds: float) -> None:
        self._store = store
        self._keys = keys
        self._prices = prices
        self._max_seconds = max_seconds

    async def admit(self, caller: Caller, groups: Sequence[str]) -> Admission:
        """Admit one call to each of `groups` (a group as often as it is called), or raise before any call is made.

        `TooManyRequests` or `BudgetExceeded` says which limit of key, user or team does not allow all of them. Whatever
        becomes of an admission, it is to be recorded once.
        """
        admission = await self._admission(caller, groups)
        self._prices.read()
        return admission

    async def record(self, admission: Admission) -> None:
        """Write down all attempts, by one statement, before the response has gone.

        Raises where the key may no longer have the answer, unless that has begun to leave.
        """
        if not admission.attempts and not admission.lease:
            if not admission.is_leaving:  # an error, which is the key's own if that may do nothing any more
                await admission.verify()
            return
        calls = [self._call(attempt) for attempt in admission.attempts]
        try:
            grant = await self._store.functions.record(calls, admission.caller, admission.lease)
        except ManifoldError as error:
            observe.fault(error, calls=str(len(calls)))
            if not admission.is_verified and not admission.is_leaving:
                raise Unavailable("The key could not be verified. Try again shortly.") from error
            return
        if not admission.is_leaving:
            admission.check(grant)

    async def _admission(self, caller: Caller, groups: Sequence[str]) -> Admission:
        """The admission by the caller's limits, which may be others than those that were remembered."""
        while caller.limited and caller.credential is not None:
            admission = Admission(self._keys, caller, groups, ids.new("call"))
            grant, statuses = await self._store.functions.admit(
                caller.credential, caller.limited, len(groups), admission.lease, self._max_seconds
            )
            if grant == caller.credential.grant:
                refused = limits.refusal(caller.limited, statuses, len(groups))
                if refused is not None:
                    raise refused
                admission.is_verified = True
                return admission
            caller = admission.check(grant)
        return Admission(self._keys, caller, groups)

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
