"""How long API Gateway waits for the answer to a request: it began to when the request arrived there."""

import time
from collections.abc import Mapping
from typing import Any

from manifold.dispatch.deadline import Deadline

IDLE_SECONDS = 300.0
"""After so long without a byte API Gateway ends a response.
https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode.html"""
MARGIN_SECONDS = 1.0
"""Kept free before API Gateway's timeout, to write the answer and to send it."""


def deadline(event: Mapping[str, Any] | None, timeout: float) -> Deadline:
    """That of a request which API Gateway gives up `timeout` seconds after it arrived.

    `event` is API Gateway's, whose `requestContext.requestTimeEpoch` is that time; without one it is now.
    """
    arrived = ((event or {}).get("requestContext") or {}).get("requestTimeEpoch")
    passed = max(0.0, time.time() - arrived / 1000) if arrived else 0.0
    return Deadline.after(timeout - MARGIN_SECONDS, passed=passed)
