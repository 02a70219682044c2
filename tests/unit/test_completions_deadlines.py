"""How long a completion may take: a stream as the stack says, an answer that is sent as a whole no longer than idle."""

import time

from completions import api_gateway


async def test_the_deadline_counts_from_the_arrival_at_api_gateway() -> None:
    event = {"requestContext": {"requestTimeEpoch": (time.time() - 10) * 1000}}
    assert 288 < api_gateway.deadline(event, 300).left <= 289
    assert 298 < api_gateway.deadline(None, 300).left <= 299
