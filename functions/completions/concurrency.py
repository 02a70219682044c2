"""How many calls a deployment gets at once from this environment."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

from manifold.config import Deployment


class ConcurrencyLimits:
    """A deployment that states an `rpm` never has more than so many calls under way; they wait for each other."""

    def __init__(self) -> None:
        self._semaphores: dict[str, asyncio.Semaphore] = {}

    def at(self, deployment: Deployment) -> AbstractAsyncContextManager[None]:
        """A place among the deployment's calls, given back when the context ends."""
        if deployment.rpm is None:
            return nullcontext()
        places = self._semaphores.get(deployment.id)
        if places is None:
            places = self._semaphores[deployment.id] = asyncio.Semaphore(deployment.rpm)
        return places
