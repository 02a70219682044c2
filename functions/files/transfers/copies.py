"""The providers' copies of inputs that nobody needs any more."""

import time

from manifold import observe
from manifold.deployments import Deployments
from manifold.errors import TIMEOUT, ProviderRefused, ProviderUnclear, Unavailable
from manifold.store import Store
from manifold.store.inputs import InputRow

DELETE_SECONDS = 5.0
"""Time for a provider's delete of one file."""
HANGING_SECONDS = 60.0
"""After a delete that took longer, this environment sends the deployment no other one for so long: all transfers share
one queue."""


class Copies:
    """Deletes inputs' copies. Holds the store and the deployments, and remembers the deployments whose deletes hang."""

    def __init__(self, store: Store, deployments: Deployments) -> None:
        self._store = store
        self._deployments = deployments
        self._hanging: dict[str, float] = {}
        """Deployments that get no delete, each with the time (of the wall's clock) until when."""

    async def discard(self, row: InputRow) -> None:
        """Delete an input's copy, if there is one, and discard the input; raises `ProviderError` or `ManifoldError`.

        Where the refusal is lasting, the copy stays until the provider drops it.
        """
        try:
            await self._delete(row)
        except ProviderRefused as error:
            if not error.lasting:
                raise
            observe.failed("input_delete_failed", error, input_id=row.id, deployment_id=row.deployment_id)
        async with self._store.session() as tables:
            if not await tables.inputs.discard(row.id, deleted=row):
                raise Unavailable("An upload that was under way made a copy meanwhile.")

    async def _delete(self, row: InputRow) -> None:
        deployment, ref = self._deployments.get(row.deployment_id), row.provider_ref
        if deployment is None or ref is None:
            return
        if time.time() < self._hanging.get(deployment.id, 0.0):
            raise ProviderUnclear("its deletes hang", code=TIMEOUT)
        try:
            await self._deployments.call(
                deployment, lambda provider, at: provider.discard(at, ref), seconds=DELETE_SECONDS
            )
        except ProviderUnclear as error:
            if error.code == TIMEOUT:
                self._hanging[deployment.id] = time.time() + HANGING_SECONDS
            raise
