"""A job as its provider gets it: what `submit` and `find` need of the rows, and its lines where they travel along."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import Unavailable
from manifold.providers import Input, Job
from manifold.store.batches import BatchRow
from manifold.store.inputs import InputKeys
from manifold.store.jobs import JobRow

if TYPE_CHECKING:  # boto3 is imported only for a job that takes its lines along
    from manifold.storage import Storage

GetStorage = Callable[[], "Storage"]


def provider_job(
    batch: BatchRow, job: JobRow, input_ref: str | None, others: frozenset[str] = frozenset(), data: Input | None = None
) -> Job:
    """The job without its lines. `others` are the provider's ids of other jobs of ours."""
    return Job(
        id=job.id,
        input_ref=input_ref,
        endpoint=batch.endpoint,
        completion_window=batch.completion_window,
        created_at=int(job.created_at.timestamp()),
        input_id=job.input_id,
        requests=job.requests - job.refused,
        data=data,
        others=others,
    )


class JobLines:
    """Adds the lines to jobs that take them along; used by `Submission`."""

    def __init__(self, deployments: Deployments, storage: GetStorage) -> None:
        self._deployments = deployments
        self._storage = storage

    async def added(self, job: Job, batch: BatchRow, deployment: Deployment) -> Job:
        """The same job, with its lines if the deployment wants them. Raises `Unavailable` if S3 does not have them."""
        if not self._deployments.sends_lines(deployment):
            return job
        storage, key = self._storage(), InputKeys.of(batch.input_file_id, job.input_id).lines
        size = await storage.size(key)
        if size is None:
            raise Unavailable("The lines of the job are not in the file storage.")
        return replace(job, data=Input(job.input_id, size, lambda: storage.read(key), job.requests, batch.endpoint))
