"""A job that runs at its provider, with what polling and cancellation need to know of it."""

import math
from typing import NamedTuple

from manifold.config import Deployment
from manifold.store.batches import BatchRow
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow

RESCUE_PATIENCE_SECONDS = 600.0
"""How long a provider may take to end a job that is cancelled for a rescue, with what it has answered; a third of the
time at most that the rescue has."""


class RunningJob(NamedTuple):
    """A shard under our lease with its batch, its job in the state `running`, and the deployment that it runs on."""

    batch: BatchRow
    shard: ShardRow
    job: JobRow
    deployment: Deployment
    rescue_before_expiry: float | None = None
    """Seconds before the end of the batch's window from which on the gateway runs it; `None`: never."""

    @property
    def ref(self) -> str:
        """The provider's id of the job."""
        ref = self.job.provider_ref
        assert ref is not None  # noqa: S101 (a running job has one, by a constraint)
        return ref

    @property
    def until_rescue(self) -> float:
        """Seconds until the gateway is to run what the provider has not: 0 or less from then on."""
        if self.rescue_before_expiry is None or self.batch.status == "cancelling":
            return math.inf
        return self.batch.left - self.rescue_before_expiry

    @property
    def is_rescued(self) -> bool:
        """Whether the gateway is to run what the provider has not: only while there is time left to do so."""
        return self.until_rescue <= 0 < self.batch.left

    @property
    def until_given_up(self) -> float:
        """Seconds until the gateway no longer waits for what the provider has answered by then.

        They are counted from the cancel, which may be late, and else from the beginning of the rescue.
        """
        if math.isinf(self.until_rescue):
            return math.inf
        waited = -self.until_rescue if self.job.cancel_sent_for is None else self.job.cancel_sent_for
        return min(RESCUE_PATIENCE_SECONDS, (self.batch.left + waited) / 3) - waited

    @property
    def sent(self) -> int:
        """How many requests the provider has: those that could not be translated for it never came there."""
        return self.shard.requests - self.job.refused
