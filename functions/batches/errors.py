"""The errors that several routes of `/batches` answer with."""

from manifold.errors import NotFound


def batch_not_found(batch_id: str) -> NotFound:
    """There is no such batch, or it is not the caller's: the client cannot tell which."""
    return NotFound(f"No batch found with id '{batch_id}'.", param="batch_id", code="batch_not_found")
