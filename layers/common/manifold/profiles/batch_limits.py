"""What a deployment takes of batches at most, and at least."""

from typing import NamedTuple


class BatchLimits(NamedTuple):
    """Limits of one deployment; `None` where no limit is known."""

    enqueued_tokens: int | None = None
    """Input tokens of all open jobs together."""
    enqueued_requests: int | None = None
    """Requests of all open jobs together."""
    batch_requests: int | None = None
    """Requests of one job."""
    batch_bytes: int | None = None
    """Bytes of one job's input, with the deployment's own model name in each line."""
    concurrent_batches: int | None = None
    """Open jobs."""
    fewest_requests: int = 1
    """Requests that one job must have."""

    def may_ever_take(self, requests: int, size: int, tokens: int) -> bool:
        """Whether a job of so many requests, bytes and input tokens may run here once nothing else does."""
        most = (
            (self.batch_requests, requests),
            (self.enqueued_requests, requests),
            (self.batch_bytes, size),
            (self.enqueued_tokens, tokens),
        )
        return requests >= self.fewest_requests and all(limit is None or needed <= limit for limit, needed in most)
