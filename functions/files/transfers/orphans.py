"""The deletion of orphans: copies of our inputs at a provider that no input's row names.

A worker that dies, or an upload whose response is lost, may leave one. So an input that was tried more than once, or
given up, makes its deployment suspect. An hour later, when no attempt can still be running, the provider's files are
listed and compared with the inputs by their names, which hold the input's id.
"""

import re
from datetime import datetime

from manifold import observe
from manifold.deployments import Deployments
from manifold.errors import ProviderError
from manifold.providers import BatchProvider, Endpoint, Listed
from manifold.store import Store

NAME = re.compile(r"(input_[A-Za-z0-9]+)\.jsonl")
"""The file name of an input at a provider."""
MIN_AGE = 1800
"""Age in seconds from which on a copy may be an orphan: twice the longest run of the worker that made it."""
CLEAR_SECONDS = 300.0
"""Time for one run: a listing, and the deletes. What was deleted by then stays deleted."""
MANY = 1000
"""Copies that one run deletes at most. The next run, an hour later, deletes the rest."""


class Orphans:
    """Deletes the orphans at a deployment. `worker` calls `run` for each `deployment` message.

    Holds the store and the deployments. A provider's fault is logged, not raised. Raises `ManifoldError` if Postgres
    does not answer.
    """

    def __init__(self, store: Store, deployments: Deployments) -> None:
        self._store = store
        self._deployments = deployments

    async def run(self, deployment_id: str) -> None:
        """Delete the orphans at a deployment that is suspect. After a failure, the next run comes an hour later."""
        async with self._store.session() as tables:
            since = await tables.inputs.claim_orphan_check(deployment_id)
        deployment = self._deployments.get(deployment_id)
        if since is None or deployment is None:
            return
        try:
            count = await self._deployments.call(
                deployment, lambda provider, at: self._clear(provider, at, since), seconds=CLEAR_SECONDS
            )
        except ProviderError as error:
            observe.failed("orphans_delete_failed", error, deployment_id=deployment_id)
            return
        observe.event("orphans_deleted", deployment_id=deployment_id, orphans=count)
        if count <= MANY:
            async with self._store.session() as tables:
                await tables.inputs.end_orphan_check(deployment_id, since)

    async def _clear(self, provider: BatchProvider, at: Endpoint, now: datetime) -> int:
        """Delete up to `MANY` orphans, and return how many there were. All are listed before the rows are read."""
        latest = now.timestamp() - MIN_AGE
        copies = [pair async for listed in provider.inputs(at) if (pair := _copy(listed, latest))]
        async with self._store.session() as tables:
            orphans = await tables.inputs.orphans(copies)
        for ref in orphans[:MANY]:
            await provider.discard(at, ref)
        return len(orphans)


def _copy(listed: Listed, latest: float) -> tuple[str, str] | None:
    """The input's id and the provider's reference, if the file is named like an input and was made by `latest`."""
    match = NAME.fullmatch(listed.name)
    if match is None or listed.created_at is None or listed.created_at > latest:
        return None
    return match[1], listed.ref
