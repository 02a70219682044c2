"""What an account may have enqueued of a model, what it has, and what it had at the most."""

import threading
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from local.provider.refusal import Refusal
from local.provider.token_rules import TokenRule

Limit = Field(default=None, ge=0)
QuotaKey = tuple[str, str]
"""An account's name, and the model that a batch's lines name."""
STATUS = 429
STATUSES = {"azure": 400, "bedrock": 400}
"""What a create over the quota is refused with, by dialect; `STATUS` at any other."""


class Quota(BaseModel):
    """The limits of one model of an account. `None`: none of what is enqueued, and the dialect's own for a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_enqueued_tokens: int | None = Limit
    max_enqueued_requests: int | None = Limit
    max_concurrent_batches: int | None = Limit
    max_batch_requests: int | None = Limit
    min_batch_requests: int | None = Limit
    max_batch_bytes: int | None = Limit
    over: Literal["refuse", "fail"] = "refuse"
    """A batch over what may be enqueued is refused when it is created, as at Azure; or it is accepted, and fails when
    it is validated, as at OpenAI."""
    tokens: TokenRule = "bytes"

    @property
    def limits_enqueued(self) -> bool:
        limits = (self.max_enqueued_tokens, self.max_enqueued_requests, self.max_concurrent_batches)
        return any(limit is not None for limit in limits)


class Load(NamedTuple):
    """What batches hold of a quota."""

    tokens: int = 0
    requests: int = 0
    batches: int = 0

    def plus(self, other: "Load") -> "Load":
        return Load(self.tokens + other.tokens, self.requests + other.requests, self.batches + other.batches)

    def minus(self, other: "Load") -> "Load":
        return Load(self.tokens - other.tokens, self.requests - other.requests, self.batches - other.batches)


NO_LOAD = Load()


@dataclass
class ModelUse:
    """What an account has, and had, of one model."""

    enqueued: Load = NO_LOAD
    """Of all batches that have not ended."""
    started: Load = NO_LOAD
    """Of those among them that are validated."""
    highest: Load = NO_LOAD
    """The most that was enqueued at any time, each by itself."""
    exceeded: bool = False
    """Whether accepted batches were ever more than the quota."""
    refused: int = 0
    """The creates that were refused for the quota."""
    failed: int = 0
    """The accepted batches that failed for it."""
    answered: int = 0
    """The lines that were answered with success and written into results, and what their answers say they used."""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass
class Quotas:
    """All accounts' quotas and use, by account and model."""

    _quotas: dict[QuotaKey, Quota] = field(default_factory=dict)
    _uses: dict[QuotaKey, ModelUse] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def set(self, key: QuotaKey, quota: Quota) -> None:
        self._quotas[key] = quota

    def of(self, key: QuotaKey) -> Quota:
        return self._quotas.get(key) or Quota()

    def use(self, key: QuotaKey) -> ModelUse:
        with self._lock:
            return self._uses.setdefault(key, ModelUse())

    def report(self) -> list[dict[str, Any]]:
        """Quota and use of each model that has either: tokens, requests and batches in objects."""
        with self._lock:
            return [self._reported(key) for key in sorted({*self._quotas, *self._uses})]

    def upload_limit(self, account: str, default: int) -> int:
        """The most bytes that a file of the account may have: some model must take it."""
        limits = [quota.max_batch_bytes for (name, _), quota in self._quotas.items() if name == account]
        return max((limit for limit in limits if limit is not None), default=default)

    def enqueue(self, key: QuotaKey, load: Load, dialect: str) -> None:
        """A batch is created. Raises a `Refusal` if that is too much and `over` says so; then it holds nothing."""
        quota = self.of(key)
        with self._lock:
            use = self.use(key)
            enqueued = use.enqueued.plus(load)
            excess = _excess(quota, enqueued, key[1])
            if excess is not None and quota.over == "refuse":
                use.refused += 1
                raise Refusal(STATUSES.get(dialect, STATUS), excess["code"], excess["message"])
            use.enqueued = enqueued
            use.highest = Load(*map(max, use.highest, enqueued))
            use.exceeded = use.exceeded or excess is not None

    def start(self, key: QuotaKey, load: Load) -> dict[str, Any] | None:
        """A batch is validated. The error that it fails with, if it is too much beside those that were before it."""
        quota = self.of(key)
        with self._lock:
            use = self.use(key)
            excess = _excess(quota, use.started.plus(load), key[1]) if quota.over == "fail" else None
            if excess is None:
                use.started = use.started.plus(load)
            else:
                use.failed += 1
            return excess

    def release(self, key: QuotaKey, load: Load, *, started: bool) -> None:
        """A batch has ended."""
        with self._lock:
            use = self.use(key)
            use.enqueued = use.enqueued.minus(load)
            if started:
                use.started = use.started.minus(load)

    def answer(self, key: QuotaKey, lines: int, input_tokens: int, output_tokens: int) -> None:
        """So many lines were answered, with this usage in all."""
        with self._lock:
            use = self.use(key)
            use.answered += lines
            use.input_tokens += input_tokens
            use.output_tokens += output_tokens

    def clear(self) -> None:
        with self._lock:
            self._quotas.clear()
            self._uses.clear()

    def _reported(self, key: QuotaKey) -> dict[str, Any]:
        use = self.use(key)
        loads = {name: getattr(use, name)._asdict() for name in ("enqueued", "started", "highest")}
        return {"account": key[0], "model": key[1], "quota": self.of(key).model_dump(), **asdict(use), **loads}


def _excess(quota: Quota, load: Load, model: str) -> dict[str, Any] | None:
    """The error for the first limit that this is more than, in OpenAI's words."""
    for limit, held, unit in (
        (quota.max_enqueued_tokens, load.tokens, "token"),
        (quota.max_enqueued_requests, load.requests, "request"),
        (quota.max_concurrent_batches, load.batches, "batch"),
    ):
        if limit is not None and held > limit:
            message = (
                f"Enqueued {unit} limit reached for {model} in organization org-simulated. Limit: {limit:,} enqueued"
                f" {unit}{'es' if unit == 'batch' else 's'}. Please try again once some in_progress batches have been"
                " completed."
            )
            return {"code": f"{unit}_limit_exceeded", "message": message, "param": None, "line": None}
    return None
