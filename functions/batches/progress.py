"""How a batch runs, in the words of its owner. Pure: nothing here tells where a job ran."""

from collections.abc import Callable

from manifold.config import Deployment
from manifold.schemas import AttemptOutcome, BatchAttempt, BatchAttemptError, ShardCounts, WaitingFor
from manifold.store import shards
from manifold.store.batches import BatchView
from manifold.store.progress import Attempt, Progress

_MESSAGES: dict[shards.WaitingFor, str] = {
    "room": "Every deployment of the model that may run it is full, or others are before it in the line. It starts when"
    " room comes free.",
    "input": "Its lines are being sent to a deployment of the model.",
    "cooldown": "The deployments of the model refused or failed it lately. It is tried again after a pause.",
}


def waiting_for(batch: BatchView, progress: Progress) -> WaitingFor | None:
    """What the batch, or a part of it, waits for; `None` if nothing waits, or if it is not to run any more."""
    if batch.status not in ("validating", "in_progress") or progress.waiting_for is None:
        return None
    return WaitingFor(
        reason=progress.waiting_for,
        message=_MESSAGES[progress.waiting_for],
        since=progress.waiting_since or 0,
        shards=progress.waiting_shards or 0,
    )


def shard_counts(progress: Progress) -> ShardCounts:
    """The batch's shards by their state."""
    return ShardCounts(total=progress.total, waiting=progress.waiting, running=progress.running, ended=progress.ended)


def attempts(
    batch: BatchView, progress: Progress, deployment: Callable[[str], Deployment | None]
) -> list[BatchAttempt]:
    """The batch's jobs, the newest first. `deployment` gives the deployment with an id."""
    return [_attempt(batch, attempt, deployment(attempt["deployment_id"])) for attempt in progress.attempts]


def _attempt(batch: BatchView, attempt: Attempt, deployment: Deployment | None) -> BatchAttempt:
    return BatchAttempt(
        shard=attempt["shard"],
        model=_group(batch, deployment),
        created_at=attempt["created_at"],
        submitted_at=attempt["submitted_at"],
        ended_at=attempt["ended_at"],
        outcome=_outcome(attempt),
        requests=attempt["requests"],
        error=_error(attempt),
    )


def _group(batch: BatchView, deployment: Deployment | None) -> str | None:
    """The model group that it ran in; `None` where that is not known any more."""
    if len(batch.groups) == 1:
        return batch.groups[0]
    return deployment.group if deployment and deployment.group in batch.groups else None


def _outcome(attempt: Attempt) -> AttemptOutcome:
    """How it stands; once it has ended at its provider, how it ended there, also while its results are still stored."""
    match attempt["state"]:
        case "submitting" | "unknown":
            return "submitting"
        case "running" | "refused" | "absent" | "abandoned" as state:
            return state
    assert attempt["outcome"] is not None  # noqa: S101 (a job that has ended has one, by a constraint)
    return attempt["outcome"]


def _error(attempt: Attempt) -> BatchAttemptError | None:
    """Its first error. That of a job which goes on is one that may pass."""
    if first := attempt["first_error"]:
        return BatchAttemptError(code=first["code"], message=first["message"])
    return BatchAttemptError(code=None, message=attempt["error"]) if attempt["error"] else None
