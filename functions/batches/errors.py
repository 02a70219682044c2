"""The errors that several routes of `/batches` answer with, and entries of `errors.data` that several steps write."""

from manifold.batch_status import ErrorEntry, batch_error
from manifold.errors import NotFound

EXPIRED = batch_error("batch_expired", "No deployment accepted the batch within its completion window.")
FAILED_WITHOUT_CAUSE = batch_error("batch_failed", "The provider failed the batch and gave no cause.")


def no_endpoint(endpoint: str) -> ErrorEntry:
    """No deployment's provider has the batch's endpoint."""
    return batch_error("invalid_endpoint", f"No deployment of the model runs batches for {endpoint}.", param="endpoint")


def too_few_requests(fewest: int, refused: int) -> ErrorEntry:
    """The batch, or this part of it, is smaller than a job of any deployment must be: without the `refused` requests,
    which cannot be sent there."""
    message = f"The model's deployments run batches of {fewest} requests and more. Send more requests in one batch."
    if refused:
        message += f" {refused} of these do not count, as they have something that the model does not take."
    return batch_error("too_few_requests", message)


def batch_not_found(batch_id: str) -> NotFound:
    """There is no such batch, or it is not the caller's: the client cannot tell which."""
    return NotFound(f"No batch found with id '{batch_id}'.", param="batch_id", code="batch_not_found")
