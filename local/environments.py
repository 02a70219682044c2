"""The environments of a function on this machine: processes, each of which has one invocation at a time."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local.runtime_api import Invocation, RuntimeApi
from local.streamed import StreamedFunction

MOST = 20
"""Environments at once: as each has one invocation, and a connection to Postgres."""


class Environments:
    """Starts an environment of a function where none is idle, up to `MOST`; `command` is its runtime."""

    def __init__(self, function: StreamedFunction, command: Sequence[str | Path]) -> None:
        self._function = function
        self._command = command
        self._api = RuntimeApi(function.arn, function.seconds)
        self._processes = set[asyncio.subprocess.Process]()
        self._watching = set[asyncio.Task[None]]()
        self._starting = 0

    async def start(self) -> None:
        """Begin to serve invocations."""
        await self._api.start()

    async def stop(self) -> None:
        """End all environments."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._watching)
        await self._api.stop()

    async def invoke(self, event: Any) -> Invocation:
        """Have an environment answer the event: one that is idle, or a new one."""
        invocation = self._api.invoke(event)
        if self._api.waiting > self._api.idle and len(self._processes) + self._starting < MOST:
            self._starting += 1
            try:
                await self._start_environment()
            finally:
                self._starting -= 1
        return invocation

    async def _start_environment(self) -> None:
        environment = {**self._function.environment, "AWS_LAMBDA_RUNTIME_API": self._api.address}
        process = await asyncio.create_subprocess_exec(*self._command, env=environment)
        self._processes.add(process)
        watching = asyncio.create_task(self._watch(process))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._processes.discard(process)
