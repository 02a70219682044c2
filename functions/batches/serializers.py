"""A batch's row as OpenAI's Batch object."""

from manifold.responses import unix_time
from manifold.schemas import (
    Batch,
    BatchError,
    BatchErrors,
    BatchUsage,
    InputTokensDetails,
    OutputTokensDetails,
    RequestCounts,
    WaitingFor,
)
from manifold.store.batches import BatchView


def batch_object(row: BatchView) -> Batch:
    """Every member of OpenAI's object. `model` is the model group, where the batch has just one."""
    return Batch(
        id=row.id,
        endpoint=row.endpoint,
        model=row.groups[0] if len(row.groups) == 1 else None,
        errors=BatchErrors(data=[BatchError(**error) for error in row.errors]) if row.errors else None,
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        status=row.status,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=int(row.created_at.timestamp()),
        in_progress_at=unix_time(row.in_progress_at),
        expires_at=unix_time(row.expires_at),
        finalizing_at=unix_time(row.finalizing_at),
        completed_at=unix_time(row.completed_at),
        failed_at=unix_time(row.failed_at),
        expired_at=unix_time(row.expired_at),
        cancelling_at=unix_time(row.cancelling_at),
        cancelled_at=unix_time(row.cancelled_at),
        request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        usage=_usage(row.usage),
        metadata=row.metadata,
        waiting_for=_waiting_for(row),
    )


def _waiting_for(row: BatchView) -> WaitingFor | None:
    if row.held_for is None or row.status != "validating":
        return None
    holder = row.held_for.partition(":")[0]
    return WaitingFor(
        reason="owner_limit",
        message=f"The other open batches of the {holder} leave no room for this one in its limits for batches. It"
        " starts when some of them have ended, and after those that have waited longer.",
        since=int(row.created_at.timestamp()),
        shards=0,
    )


def _usage(usage: dict[str, int] | None) -> BatchUsage | None:
    if usage is None:
        return None
    return BatchUsage(
        input_tokens=usage["input_tokens"],
        input_tokens_details=InputTokensDetails(cached_tokens=usage["cached_tokens"]),
        output_tokens=usage["output_tokens"],
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage["reasoning_tokens"]),
        total_tokens=usage["input_tokens"] + usage["output_tokens"],
    )
