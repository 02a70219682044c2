"""When an event is sent again that an endpoint did not take. It is given up 72 hours after the batch's end."""

import random

FIRST_PAUSE = 5.0
"""Seconds before the second attempt. Each further pause is three times as long."""
MAX_PAUSE = 10_800.0
"""Seconds before any further attempt at one event: about thirty fit into 72 hours."""
MAX_ENDPOINT_PAUSE = 3_600.0
"""Seconds for which an endpoint is sent nothing at all, at most: that soon it is noticed that it works again."""


def pause(attempts: int) -> float:
    """Seconds to the next attempt at an event after so many, with jitter."""
    return _pause(attempts, MAX_PAUSE)


def endpoint_pause(failures: int, retry_after: float | None = None) -> float:
    """Seconds for which an endpoint is left alone after so many failures in a row, with jitter.

    At least `retry_after`, which it asks for, but for that no longer than `MAX_ENDPOINT_PAUSE`.
    """
    return max(_pause(failures, MAX_ENDPOINT_PAUSE), min(retry_after or 0.0, MAX_ENDPOINT_PAUSE))


def _pause(count: int, most: float) -> float:
    return min(most, FIRST_PAUSE * 3.0 ** min(count - 1, 10)) * random.uniform(0.8, 1.2)
