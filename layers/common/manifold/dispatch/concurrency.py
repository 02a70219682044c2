"""How many calls a deployment gets at once from this environment."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

from manifold.config import Deployment


class ConcurrencyLimits:
    """The limits of one environment: `max_parallel_requests` or, where that is not set, no more calls than `rpm`."""

    def __init__(self) -> None:
        self._semaphores: dict[str, asyncio.Semaphore] = {}

    def at(self, deployment: Deployment) -> AbstractAsyncContextManager[None]:
        """A context that begins when the deployment may have another call, and frees that place when it ends."""
        most = deployment.max_parallel_requests or deployment.rpm
        if most is None:
            return nullcontext()
        semaphore = self._semaphores.get(deployment.id)
        if semaphore is None:
            semaphore = self._semaphores[deployment.id] = asyncio.Semaphore(most)
        return semaphore
