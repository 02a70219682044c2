"""Environments of a streamed function on one machine."""

import asyncio
import sys

from local.environments import MOST, Environments
from local.streamed import StreamedFunction


async def test_no_more_are_started_than_there_may_be() -> None:
    function = StreamedFunction(arn="arn:test", seconds=5, environment={}, routes=[])
    environments = Environments(function, [sys.executable, "-c", "import time; time.sleep(60)"])
    await environments.start()
    try:
        await asyncio.gather(*(environments.invoke({}) for _ in range(MOST + 10)))
        assert len(environments._processes) == MOST
    finally:
        await environments.stop()
