"""Polls: the statuses of running jobs, requested from all deployments at once and written by one writer.

Each deployment is one task with a time limit of its own, and its result is written as soon as it comes: a slow one
delays no other.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence

from batches.cancellation import Cancellation
from batches.poll_results import PollResult, PollResults
from batches.running_job import RunningJob
from manifold import observe
from manifold.config import Execution
from manifold.deployments import Deployments
from manifold.errors import ProviderError
from manifold.store import Store

POLL_SECONDS = 25.0
"""Time limit of one deployment for the statuses, and the cancels, of all its jobs that were claimed together."""


class Polling:
    """Asks providers for the statuses of running jobs, and writes what they answer; used by `Engine`.

    Holds no state of its own. A provider's error is logged and polled again later; it raises none.
    """

    def __init__(self, store: Store, deployments: Deployments, cancellation: Cancellation) -> None:
        self._deployments = deployments
        self._cancellation = cancellation
        self._results = PollResults(store, deployments)

    async def poll(self, jobs: Sequence[RunningJob]) -> AsyncGenerator[PollResult, None]:
        """Poll these jobs, all deployments at once; yields each deployment's result as soon as it is written."""
        by_deployment: dict[tuple[str, Execution], list[RunningJob]] = defaultdict(list)
        for running in jobs:
            by_deployment[running.deployment.id, running.deployment.execution].append(running)
        tasks = [asyncio.create_task(self._request(group)) for group in by_deployment.values()]
        try:
            for finished in asyncio.as_completed(tasks):
                result = await finished
                await self._results.write(result)
                yield result
        finally:
            for task in tasks:
                task.cancel()

    async def poll_one(self, running: RunningJob) -> PollResult:
        """Poll one job, and write what its provider answered."""
        result = await self._request([running])
        await self._results.write(result)
        return result

    async def _request(self, jobs: Sequence[RunningJob]) -> PollResult:
        """The statuses of one deployment's jobs, as far as they come in time. Cancels that are due go out beside it."""
        result = PollResult(jobs)
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await asyncio.gather(self._request_statuses(result), self._cancellation.send(jobs, result.cancelled))
        except TimeoutError:
            counts = {"jobs": len(jobs), "known": len(result.statuses)}
            observe.warning("jobs_poll_timed_out", deployment_id=result.deployment.id, **counts)
        return result

    async def _request_statuses(self, result: PollResult) -> None:
        refs, statuses = [running.ref for running in result.jobs], result.statuses
        try:
            await self._deployments.call(result.deployment, lambda provider, at: provider.poll(at, refs, statuses))
        except ProviderError as error:
            observe.failed("jobs_poll_failed", error, deployment_id=result.deployment.id, jobs=len(refs))
