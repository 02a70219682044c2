"""A job that runs at its provider, with what polling and cancellation need to know of it."""

from dataclasses import dataclass

from manifold.config import Deployment
from manifold.store.batches import BatchRow
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A shard under our lease with its batch, its job in the state `running`, and the deployment that it runs on."""

    batch: BatchRow
    shard: ShardRow
    job: JobRow
    deployment: Deployment

    @property
    def ref(self) -> str:
        """The provider's id of the job."""
        ref = self.job.provider_ref
        assert ref is not None  # noqa: S101 (a running job has one, by a constraint)
        return ref

    @property
    def sent(self) -> int:
        """How many requests the provider has: those that could not be translated for it never came there."""
        return self.shard.requests - self.job.refused
