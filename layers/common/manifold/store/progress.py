"""How a batch runs, for its owner: its shards by state, what those that wait wait for, its jobs as attempts."""

from typing import NamedTuple, TypedDict

from manifold.batch_status import ErrorEntry
from manifold.store.batches import Outcome
from manifold.store.jobs import States
from manifold.store.shards import WaitingFor


class Attempt(TypedDict):
    """A job, with its times in Unix seconds."""

    shard: int
    deployment_id: str
    state: States
    outcome: Outcome | None
    requests: int
    error: str | None
    first_error: ErrorEntry | None
    """The provider's first error, of a job that it ended."""
    created_at: int
    submitted_at: int | None
    ended_at: int | None


class Progress(NamedTuple):
    """How the shards and jobs of a batch stand."""

    total: int
    waiting: int
    running: int
    ended: int
    waiting_for: WaitingFor | None
    """What shards wait for: room, if any does; else the end of a cooldown, else an input."""
    waiting_since: int | None
    """Since when the first of the shards that wait for this has been without a job, in Unix seconds."""
    waiting_shards: int | None
    """How many wait for this."""
    attempts: list[Attempt]
    """The newest first."""
    stale: bool
    """Whether the provider was last asked some time ago how the job of a running shard stands."""
