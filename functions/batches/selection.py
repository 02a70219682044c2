"""Which deployment runs a batch: one with a ready input and no cooldown, by `order` and weight. Pure, without I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from manifold import routing
from manifold.config import Deployment
from manifold.provider_errors import JOB_STATUSES
from manifold.store.inputs import InputRow
from manifold.store.jobs import JobRow

MAX_REFUSALS = 5
"""Lasting refusals of one batch after which a deployment is exhausted: waiting does not change its answer."""
MAX_WRONG = 2
"""The same, where the status says that the request is wrong: two, as a file may not be known everywhere yet."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may run one batch, as that batch's rows have it. `manifold.routing` reads order and weights."""

    deployment: Deployment
    input: InputRow | None
    """The batch's file at this deployment; `None` where none has been written yet."""
    cooldown: float
    """Seconds for which the deployment is not chosen; 0 where it may be."""
    refusals: int
    """Lasting refusals of this batch."""
    wrong: int = 0
    """Those of them whose status says that the request is wrong."""

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
    def exhausted(self) -> bool:
        """Whether this deployment will never run the batch: too many refusals, or its input failed."""
        if self.refusals >= MAX_REFUSALS or self.wrong >= MAX_WRONG:
            return True
        return self.input is not None and self.input.state == "failed"

    @property
    def ready(self) -> bool:
        """Whether the batch can be submitted to it now."""
        return self.input is not None and self.input.state == "ready" and not self.cooldown and not self.exhausted

    @property
    def preparing(self) -> bool:
        """Whether its input is on its first attempt, so that it may be ready in a moment."""
        if self.input is None or self.input.state != "pending" or self.cooldown:
            return False
        return self.input.attempts <= 1 and self.input.error is None


def candidates(
    deployments: Sequence[Deployment],
    inputs: Sequence[InputRow],
    jobs: Sequence[JobRow],
    cooldowns: Mapping[str, float],
) -> list[Candidate]:
    """A candidate for each deployment, from the batch's inputs, its jobs and the seconds of cooldown by deployment."""
    by_deployment = {row.deployment_id: row for row in inputs}
    refused = [job for job in jobs if job.state == "refused" and job.lasting]
    refusals = Counter(job.deployment_id for job in refused)
    wrong = Counter(job.deployment_id for job in refused if job.status in JOB_STATUSES)
    return [
        Candidate(
            deployment,
            by_deployment.get(deployment.id),
            cooldowns.get(deployment.id, 0.0),
            refusals[deployment.id],
            wrong[deployment.id],
        )
        for deployment in deployments
    ]


def choose(options: Sequence[Candidate], random: Random, *, hold: bool) -> Candidate | None:
    """The candidate to submit the batch to now; `None` if none is ready, or one is worth waiting for.

    With `hold`, that is one that comes first in order and whose input is on its first attempt: otherwise the fastest
    upload would win every time, whatever the weights say.
    """
    ready = [candidate for candidate in options if candidate.ready]
    if hold:
        preparing = [candidate for candidate in options if candidate.preparing]
        if any(candidate.preparing for candidate in routing.first_in_order([*ready, *preparing])):
            return None
    return routing.simple_shuffle(ready, random) if ready else None
