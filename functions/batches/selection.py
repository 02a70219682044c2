"""Which deployment runs a shard: one with a ready input, room and no cooldown, by `order` and weight. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from batches.failures import is_quota
from batches.room import Room
from manifold import routing
from manifold.config import Deployment, Execution
from manifold.provider_errors import JOB_STATUSES
from manifold.store.inputs import InputRow
from manifold.store.jobs import JobRow
from manifold.store.rooms import Held
from manifold.store.shards import ShardRow

Place = tuple[str, Execution]
"""A deployment's id, and who runs the job there: a provider whose batch API refuses may still serve completions."""
MAX_REFUSALS = 5
"""Lasting refusals and failures of one shard after which a deployment is exhausted: waiting does not change them."""
MAX_WRONG = 2
"""The same, where the status says that the request is wrong: two, as a file may not be known everywhere yet."""


class Candidate(NamedTuple):
    """A deployment that may run one shard, as the rows have it. `manifold.routing` reads order and weights."""

    deployment: Deployment
    input: InputRow | None
    """The shard's lines at this deployment; `None` where none has been written yet, or none is needed."""
    cooldown: float = 0.0
    """Seconds for which the deployment is not chosen; 0 where it may be."""
    refusals: int = 0
    """Lasting refusals and failures of this shard."""
    wrong: int = 0
    """Those of them whose status says that the request is wrong."""
    failed: bool = False
    """Whether it failed this shard, and nobody knows whose fault that was."""
    attempts: int = 0
    """Jobs of this shard that it refused or failed, also those that waiting may change."""
    too_large: bool = False
    """Whether the shard is larger than one job here may be, and another deployment can take it."""
    too_small: bool = False
    """Whether the shard, or what can be translated of it, is smaller than one job here must be."""
    takes_none: bool = False
    """Whether none of the requests can be translated for its provider."""
    room: Room = Room()
    fits: bool = True
    """Whether it has room for the shard."""

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
    def needs_input(self) -> bool:
        """Whether the lines must be brought to the deployment first: what the gateway runs it reads itself."""
        return self.deployment.execution == "provider"

    @property
    def exhausted(self) -> bool:
        """Whether this deployment will never run the shard: its size is wrong, it was refused too often, or its input
        failed."""
        if self.too_large or self.too_small or self.failed or self.refusals >= MAX_REFUSALS or self.wrong >= MAX_WRONG:
            return True
        return self.input is not None and self.input.state == "failed"

    @property
    def usable(self) -> bool:
        """Whether nothing but its input or its room may keep the shard from it now."""
        return not self.cooldown and not self.exhausted

    @property
    def ready(self) -> bool:
        """Whether the shard can be submitted to it now."""
        has_lines = not self.needs_input or (self.input is not None and self.input.state == "ready")
        return self.usable and self.fits and has_lines

    @property
    def refused(self) -> int:
        """How many of the requests its provider would not get, as they cannot be translated for it."""
        return 0 if self.input is None else self.input.refused

    @property
    def preparing(self) -> bool:
        """Whether its input is on its first attempt, so that it may be ready in a moment."""
        if self.input is None or self.input.state != "pending" or not self.usable:
            return False
        return self.input.attempts <= 1 and self.input.error is None

    @property
    def in_line(self) -> bool:
        """Whether the shard stands in line for its room: also while others were refused here, and so none is taken."""
        if self.exhausted or not self.room.is_bounded or (self.cooldown and self.attempts):
            return False
        return not self.fits if self.input is None else self.input.state == "ready"


def candidates(
    shard: ShardRow,
    deployments: Sequence[Deployment],
    inputs: Sequence[InputRow],
    jobs: Sequence[JobRow],
    cooldowns: Mapping[Place, float],
    held: Mapping[str, Held],
) -> list[Candidate]:
    """A candidate for each deployment, from the shard's inputs and jobs, the seconds of cooldown, and what is held."""
    by_deployment = {row.deployment_id: row for row in inputs}
    refused = [job for job in jobs if job.state == "refused"]
    failed = [job for job in jobs if job.state == "settled" and job.fault]
    lasting = [job for job in refused if job.lasting] + [job for job in failed if not is_quota(job.errors)]
    refusals = Counter(map(_place, lasting))
    wrong = Counter(_place(job) for job in refused if job.lasting and job.status in JOB_STATUSES)
    attempts = Counter(map(_place, [*refused, *failed]))
    unknown = {_place(job) for job in failed if job.fault == "unknown"}
    some_fit = any(may_ever_take(deployment, shard) for deployment in deployments)
    found = []
    for deployment in deployments:
        by_provider = deployment.execution == "provider"
        room = Room.of(deployment.limits, held.get(deployment.id) if by_provider else None)
        prepared = by_deployment.get(deployment.id) if by_provider else None
        place = (deployment.id, deployment.execution)
        found.append(
            Candidate(
                deployment,
                prepared,
                cooldowns.get(place, 0.0),
                refusals[place],
                wrong[place],
                failed=place in unknown,
                attempts=attempts[place],
                too_large=some_fit and not may_ever_take(deployment, shard),
                too_small=_is_too_small(shard, deployment, prepared),
                takes_none=prepared is not None and 0 < shard.requests <= prepared.refused,
                room=room,
                fits=room.fits(shard),
            )
        )
    return found


def choose(options: Sequence[Candidate], random: Random, *, hold: bool) -> Candidate | None:
    """The candidate to submit the shard to now; `None` if none is ready, or one is worth waiting for.

    Of those that are ready, it is one that takes the most of the requests. Where that is not all, those whose input is
    on its first attempt are worth waiting for; where it is none, all that may ever run the shard. With `hold`, one that
    comes first in order and whose input is on its first attempt is, too: otherwise the fastest upload would win every
    time, whatever the weights say.
    """
    ready = [candidate for candidate in options if candidate.ready]
    preparing = [candidate for candidate in options if candidate.preparing]
    if hold and any(candidate.preparing for candidate in routing.first_in_order([*ready, *preparing])):
        return None
    fewest = min((candidate.refused for candidate in ready), default=0)
    ready = [candidate for candidate in ready if candidate.refused == fewest]
    if fewest and preparing:
        return None
    if any(one.takes_none for one in ready) and not all(one.takes_none or one.exhausted for one in options):
        return None
    return routing.simple_shuffle(ready, random) if ready else None


def to_prepare(options: Sequence[Candidate], random: Random, chosen: Candidate | None = None) -> Candidate | None:
    """The candidate for which an input of the shard is to be made; `None` while another one is being made, or if no
    deployment has room.

    Where one is `chosen`, it is one that may take more of the requests: of a provider for which none were translated.
    """
    if any(candidate.preparing for candidate in options) or (chosen is not None and not chosen.refused):
        return None
    free = [one for one in options if one.needs_input and one.input is None and one.usable and one.fits]
    if chosen is not None:
        tried = {candidate.deployment.provider for candidate in options if candidate.input is not None}
        free = [candidate for candidate in free if candidate.deployment.provider not in tried]
    return routing.simple_shuffle(free, random) if free else None


def _place(job: JobRow) -> Place:
    return job.deployment_id, job.execution


def _is_too_small(shard: ShardRow, deployment: Deployment, prepared: InputRow | None) -> bool:
    """Where nothing of the shard can be translated, no job is needed."""
    left = shard.requests - (prepared.refused if prepared else 0)
    return (left or shard.requests) < deployment.limits.fewest_requests


def may_ever_take(deployment: Deployment, shard: ShardRow) -> bool:
    """Whether the shard is neither larger nor smaller than one job at the deployment may be."""
    return deployment.limits.may_ever_take(shard.requests, shard.bytes, shard.tokens)
