"""Accounts at the providers of a run: what each keeps."""

from dataclasses import dataclass, field

from manifold.config import BatchLimits
from tests.faults.provider_jobs import ProviderJob


@dataclass(eq=False)
class StoredInput:
    """A file at the provider."""

    ref: str
    name: str
    content: bytes
    created_at: float
    expires_at: float | None


@dataclass(eq=False)
class Account:
    """What a provider keeps for one deployment."""

    name: str
    model: str
    limits: BatchLimits
    """What the gateway knows of its limits, and keeps."""
    quota: int | None
    """Lines of open jobs; `None`: as many as come."""
    input_seconds: float | None
    """How long an input is kept."""
    inputs: dict[str, StoredInput] = field(default_factory=dict)
    jobs: dict[str, ProviderJob] = field(default_factory=dict)
    over: int = 0
    """Creates that went over the quota."""
    undeletable: set[str] = field(default_factory=set)
    """Inputs whose delete was refused for good."""

    def expire(self, now: float) -> None:
        """Delete the inputs that were kept for long enough."""
        for ref in [ref for ref, one in self.inputs.items() if one.expires_at is not None and one.expires_at <= now]:
            del self.inputs[ref]

    def enqueued(self) -> int:
        return sum(len(job.lines) for job in self.jobs.values() if job.open)
