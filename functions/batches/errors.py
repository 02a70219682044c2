"""The errors that several routes of `/batches` answer with, and entries of `errors.data` that several steps write."""

from manifold.errors import NotFound
from manifold.schemas import batch_error

EXPIRED = batch_error("batch_expired", "No deployment accepted the batch within its completion window.")
FAILED_WITHOUT_CAUSE = batch_error("batch_failed", "The provider failed the batch and gave no cause.")


def batch_not_found(batch_id: str) -> NotFound:
    """There is no such batch, or it is not the caller's: the client cannot tell which."""
    return NotFound(f"No batch found with id '{batch_id}'.", param="batch_id", code="batch_not_found")
