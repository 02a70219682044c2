"""Which deployment gets a batch: the healthy ones with a ready input, by `order` and weight."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from manifold import routing
from manifold.config import Deployment
from manifold.store.inputs import InputRow
from manifold.store.jobs import JobRow

MAX_REFUSALS = 5
"""How often one deployment may refuse one batch for a reason that waiting will not change."""
MAX_WRONG = 2
"""The same, where it says that the request itself is wrong: once more, as a file may not be known everywhere yet."""
WRONG = frozenset({400, 404, 405, 410, 413, 415, 422, 501})


@dataclass(frozen=True, slots=True)
class Outlet:
    """A deployment as one batch sees it. Routing reads its order and weights."""

    deployment: Deployment
    input: InputRow | None
    cooling: float
    """Seconds for which it is to be left alone."""
    refusals: int
    """How often it refused this batch for good reason."""
    wrong: int = 0
    """How often it found the request itself wrong."""

    @property
    def order(self) -> int | None:
        return self.deployment.order

    @property
    def weight(self) -> float | None:
        return self.deployment.weight

    @property
    def rpm(self) -> int | None:
        return self.deployment.rpm

    @property
    def tpm(self) -> int | None:
        return self.deployment.tpm

    @property
    def hopeless(self) -> bool:
        """Nothing will change by waiting."""
        if self.refusals >= MAX_REFUSALS or self.wrong >= MAX_WRONG:
            return True
        return self.input is not None and self.input.state == "failed"

    @property
    def ready(self) -> bool:
        return self.input is not None and self.input.state == "ready" and not self.cooling and not self.hopeless

    @property
    def preparing(self) -> bool:
        """Its input is on its first attempt, so that it may be ready in a moment."""
        if self.input is None or self.input.state != "pending" or self.cooling:
            return False
        return self.input.attempts <= 1 and self.input.error is None


def outlets(
    deployments: Sequence[Deployment],
    inputs: Sequence[InputRow],
    jobs: Sequence[JobRow],
    cooling: Mapping[str, float],
) -> list[Outlet]:
    """The deployments of a batch, with what its rows say of them."""
    by_deployment = {row.deployment_id: row for row in inputs}
    refused = [job for job in jobs if job.state == "refused" and job.lasting]
    refusals = Counter(job.deployment_id for job in refused)
    wrong = Counter(job.deployment_id for job in refused if job.status in WRONG)
    return [
        Outlet(
            deployment,
            by_deployment.get(deployment.id),
            cooling.get(deployment.id, 0.0),
            refusals[deployment.id],
            wrong[deployment.id],
        )
        for deployment in deployments
    ]


def choose(candidates: Sequence[Outlet], random: Random, *, hold: bool) -> Outlet | None:
    """The one to submit to now, or `None`.

    With `hold`, a deployment that comes first in order and is about to be ready is waited for: else the fastest upload
    would win every time, whatever the weights say.
    """
    ready = [outlet for outlet in candidates if outlet.ready]
    if hold:
        soon = [outlet for outlet in candidates if outlet.preparing]
        if any(outlet.preparing for outlet in routing.first_in_order([*ready, *soon])):
            return None
    return routing.simple_shuffle(ready, random) if ready else None
