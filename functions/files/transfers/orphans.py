"""Copies at a provider that no input names: left by a worker that died, or by an upload whose answer was lost.

An input that was tried more than once, or given up, is in doubt. An hour later, when nothing of it can be on its way
any more, its deployment's files are listed and compared with the inputs: by their names, which carry the input's id.
"""

import re
from datetime import datetime

from manifold import observe
from manifold.deployments import Deployments
from manifold.errors import ProviderError
from manifold.providers import Endpoint, Listed, Provider
from manifold.store import Store

NAME = re.compile(r"(input_[A-Za-z0-9]+)\.jsonl")
"""What inputs are called at a provider."""
MIN_AGE = 1800
"""Seconds that a copy must have been there: twice the longest run of the worker that made it."""
CLEAR_SECONDS = 300.0
"""What one run may take: a listing, and the deletes. What was deleted by then stays so."""
MANY = 1000
"""How many copies one run deletes; the next one, an hour later, deletes the rest."""


class Orphans:
    def __init__(self, store: Store, deployments: Deployments) -> None:
        self._store = store
        self._deployments = deployments

    async def run(self, deployment_id: str) -> None:
        """Delete the copies at a deployment in doubt that no input names. If that fails, an hour passes first."""
        async with self._store.session() as tables:
            since = await tables.inputs.claim_doubts(deployment_id)
        deployment = self._deployments.get(deployment_id)
        if since is None or deployment is None:
            return
        try:
            found = await self._deployments.call(
                deployment, lambda provider, at: self._clear(provider, at, since), seconds=CLEAR_SECONDS
            )
        except ProviderError as error:
            observe.failed("orphans_delete_failed", error, deployment_id=deployment_id)
            return
        observe.event("orphans_deleted", deployment_id=deployment_id, orphans=found)
        if found <= MANY:
            async with self._store.session() as tables:
                await tables.inputs.settle_doubts(deployment_id, since)

    async def _clear(self, provider: Provider, at: Endpoint, now: datetime) -> int:
        """Delete up to `MANY` orphans, and return how many there were. All are listed before the rows are read."""
        latest = now.timestamp() - MIN_AGE
        copies = [pair async for listed in provider.inputs(at) if (pair := _copy(listed, latest))]
        async with self._store.session() as tables:
            orphans = await tables.inputs.orphans(copies)
        for ref in orphans[:MANY]:
            await provider.discard(at, ref)
        return len(orphans)


def _copy(listed: Listed, latest: float) -> tuple[str, str] | None:
    """The input's id and the copy's ref, if the file may be a copy of ours that was made by then."""
    named = NAME.fullmatch(listed.name)
    if named is None or listed.created_at is None or listed.created_at > latest:
        return None
    return named[1], listed.ref
