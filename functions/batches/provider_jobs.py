"""A job as its provider gets it: what `submit` and `find` need of the rows, and its lines where they travel along."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import InputLost, ProviderRefused, ProviderUnclear, Unavailable
from manifold.providers import Input, Job
from manifold.store.batches import BatchRow
from manifold.store.inputs import InputKeys
from manifold.store.jobs import JobRow

if TYPE_CHECKING:  # boto3 is imported only for a job that takes its lines along
    from manifold.storage import Storage

GetStorage = Callable[[], "Storage"]


def provider_job(batch: BatchRow, job: JobRow, input_ref: str | None, others: frozenset[str] = frozenset()) -> Job:
    """The job without its lines. `others` are the provider's ids of other jobs of ours."""
    return Job(
        id=job.id,
        input_ref=input_ref,
        endpoint=batch.endpoint,
        completion_window=batch.completion_window,
        created_at=int(job.created_at.timestamp()),
        input_id=job.input_id or "",
        requests=job.requests - job.refused,
        others=others,
    )


class JobLines:
    """Adds the lines to jobs that take them along; used by `Submission`."""

    def __init__(self, deployments: Deployments, storage: GetStorage) -> None:
        self._deployments = deployments
        self._storage = storage

    async def added(self, job: Job, batch: BatchRow, deployment: Deployment) -> Job:
        """The same job, with its lines if the deployment wants them.

        Raises `InputLost` if S3 does not have them, and `ProviderRefused` if it does not answer: nothing was sent.
        """
        if not self._deployments.sends_lines(deployment):
            return job
        storage, key = self._storage(), InputKeys.of(batch.input_file_id, job.input_id).lines
        try:
            size = await storage.size(key)
        except Unavailable as error:
            raise ProviderRefused(error.message) from error
        if size is None:
            raise InputLost("the file storage no longer has the lines of the job", lasting=True)
        return job._replace(data=Input(job.input_id, size, lambda: _lines(storage, key), job.requests, batch.endpoint))


async def _lines(storage: "Storage", key: str) -> AsyncIterator[bytes]:
    """The lines. `ProviderUnclear` if they break off: all of them may have been sent by then."""
    try:
        async for chunk in storage.read(key):
            yield chunk
    except Unavailable as error:
        raise ProviderUnclear(error.message) from error
