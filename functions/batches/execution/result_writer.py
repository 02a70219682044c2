"""Answers on their way to S3: written together, soon after they came, so that a killed worker repeats few calls."""

import asyncio
import contextlib
from collections.abc import Sequence

from manifold import observe
from manifold.errors import ManifoldError
from manifold.execution.parts import KINDS, Found, Kind, Parts
from manifold.store.chunks import ChunkProgress

WRITE_SECONDS = 0.5
"""How long an answer waits for others at most, before they are written."""
WRITTEN_TOGETHER = 16
"""Answers that are written at once, without waiting for more."""
HELD_BYTES = 16 * 1024 * 1024
"""Bytes of answers that are not written yet, above which no call begins."""
OBJECT_BYTES = 8 * 1024 * 1024
"""Bytes of answers that are written as one object, or one answer that has more: objects are read whole."""
ATTEMPTS, PAUSE_SECONDS = 3, 2.0
"""How often a write is tried, and the pause between; no call begins meanwhile."""


class ResultWriter:
    """The results of a chunk, as one attempt adds to them."""

    def __init__(self, parts: Parts, attempt: int) -> None:
        self._parts = parts
        self._attempt = attempt
        self._counts: list[list[int]] = [[0, 0]]
        self._written: dict[Kind, int] = {"output": 0, "error": 0}
        self._is_resumed = False
        self._lines: dict[Kind, list[bytes]] = {"output": [], "error": []}
        self._bytes = 0
        self._added = asyncio.Event()
        self._many = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._writing = asyncio.Lock()

    def resume(self, found: Found) -> None:
        """Count what earlier attempts have left, before anything is added."""
        self._counts[:0] = found.counts
        for kind in found.answered.values():
            self._written[kind] += 1
        self._is_resumed = True

    @property
    def progress(self) -> ChunkProgress | None:
        """What is in S3, of earlier attempts and of this one; `None` before it is resumed."""
        if not self._is_resumed:
            return None
        return ChunkProgress(self._written["output"], self._written["error"], self._counts)

    def add(self, kind: Kind, line: bytes) -> None:
        """Take a result."""
        self._lines[kind].append(line)
        self._bytes += len(line)
        self._added.set()
        if sum(map(len, self._lines.values())) >= WRITTEN_TOGETHER:
            self._many.set()
        if self._bytes > HELD_BYTES:
            self._has_room.clear()

    async def room(self) -> None:
        """Wait until more answers can be held."""
        await self._has_room.wait()

    async def keep_writing(self) -> None:
        """Write what is added, until this is cancelled. Raises `ManifoldError` if S3 does not take it."""
        while True:
            await self._added.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._many.wait()
            await self.write()

    async def write(self) -> None:
        """Write all that was added. Raises `ManifoldError` if S3 does not take it; then it is kept."""
        async with self._writing:
            self._added.clear()
            self._many.clear()
            for place, kind in enumerate(KINDS):
                lines = self._lines[kind]
                for number in _objects(lines):
                    content = b"".join(lines[:number])
                    await self._put(kind, self._counts[-1][place], content)
                    self._counts[-1][place] += 1
                    self._written[kind] += number
                    del lines[:number]
                    self._bytes -= len(content)
            if self._bytes <= HELD_BYTES:
                self._has_room.set()

    async def _put(self, kind: Kind, number: int, content: bytes) -> None:
        for attempt in range(ATTEMPTS):
            try:
                await self._parts.write(self._attempt, kind, number, content)
                return
            except ManifoldError as error:
                observe.failed("results_write_failed", error, attempts=attempt + 1)
                self._has_room.clear()
                if attempt + 1 == ATTEMPTS:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)


def _objects(lines: Sequence[bytes]) -> list[int]:
    """How many of these lines each object gets, in their order."""
    numbers, size = list[int](), 0
    for line in lines:
        size += len(line)
        if size > OBJECT_BYTES or not numbers:
            numbers.append(0)
            size = len(line)
        numbers[-1] += 1
    return numbers
