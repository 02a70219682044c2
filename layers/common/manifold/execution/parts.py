"""Where the results of a chunk are kept while its batch runs: small objects, in the order in which they were written.

Each attempt at a chunk numbers its objects from 0, those of answers and those of failures apart, and writes one after
the other: so an attempt has left those up to the first number that is missing. They lie below the batch's file, and are
deleted with what was made of it. A line begins with an id that names its request.
"""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

from manifold.errors import Unavailable
from manifold.storage import Storage
from manifold.store.inputs import inputs_prefix

Kind = Literal["output", "error"]
KINDS: tuple[Kind, Kind] = ("output", "error")
READ_AT_ONCE, READ_AHEAD_BYTES = 8, 32 * 1024 * 1024
"""Objects that are read at once: so many at most, and of large ones no more than have so many bytes, or one."""


@dataclass(slots=True)
class Found:
    """What earlier attempts at a chunk have left."""

    counts: list[list[int]] = field(default_factory=list)
    """Of each attempt the numbers of its output objects and of its error objects."""
    answered: dict[int, Kind] = field(default_factory=dict)
    """The requests that they answer, by their places in the chunk."""


def job_prefix(input_file_id: str, job_id: str) -> str:
    """How the keys of all results of a job begin."""
    return f"{inputs_prefix(input_file_id)}{job_id}/"


class Parts:
    """The objects of one chunk."""

    def __init__(self, storage: Storage, input_file_id: str, job_id: str, chunk_id: str) -> None:
        self._storage = storage
        self._prefix = f"{job_prefix(input_file_id, job_id)}{chunk_id}/"
        self._chunk_id = chunk_id

    def request_id(self, number: int) -> str:
        """The `id` of the result of a request: its place in the chunk, from 0."""
        return f"batch_req_{self._chunk_id.partition('_')[2]}_{number}"

    async def write(self, attempt: int, kind: Kind, number: int, lines: bytes) -> None:
        """Write an object of whole lines."""
        await self._storage.put(self._key(attempt, kind, number), lines)

    async def found(self, attempts: int, known: Sequence[Sequence[int]] = ()) -> Found:
        """What the attempts up to this one have left. It is `known` of the first ones how many objects they have."""
        found = Found()
        for attempt in range(1, attempts + 1):
            found.counts.append([0, 0])
            most = known[attempt - 1] if attempt <= len(known) else (sys.maxsize, sys.maxsize)
            for place, kind in enumerate(KINDS):
                async with contextlib.aclosing(self._objects(attempt, kind, most[place])) as objects:
                    async for content in objects:
                        found.counts[-1][place] += 1
                        for line in BytesIO(content):
                            found.answered.setdefault(_number(line), kind)
        return found

    async def lines(self, kind: Kind, counts: Sequence[Sequence[int]]) -> AsyncIterator[bytes]:
        """The lines of these objects, some at a time, each request's once, and only where `found` counts its kind: the
        first that was written.

        Raises `Unavailable` if one of the objects is missing.
        """
        found = await self.found(len(counts), counts) if _may_overlap(counts) else Found()
        seen = {number for number, first in found.answered.items() if first != kind}
        for attempt, of_attempt in enumerate(counts, start=1):
            left = of_attempt[KINDS.index(kind)]
            async with contextlib.aclosing(self._objects(attempt, kind, left)) as objects:
                async for content in objects:
                    left -= 1
                    lines = [line for line in BytesIO(content) if _number(line) not in seen]
                    seen.update(map(_number, lines))
                    yield b"".join(lines)
            if left:
                raise Unavailable("The file storage has lost results of the batch.")

    async def _objects(self, attempt: int, kind: Kind, most: int = sys.maxsize) -> AsyncGenerator[bytes, None]:
        """The objects of an attempt in their order, up to the first that is missing; several are read at once."""
        coming: deque[asyncio.Task[bytes | None]] = deque()
        number, largest, at_once = 0, 1, 1
        try:
            while number < most or coming:
                while number < most and len(coming) < at_once:
                    coming.append(asyncio.create_task(self._storage.get(self._key(attempt, kind, number))))
                    number += 1
                content = await coming.popleft()
                if content is None:
                    return
                largest = max(largest, len(content))
                at_once = min(READ_AT_ONCE, max(1, READ_AHEAD_BYTES // largest))
                yield content
        finally:
            await asyncio.gather(*coming, return_exceptions=True)

    def _key(self, attempt: int, kind: Kind, number: int) -> str:
        return f"{self._prefix}{attempt}-{number}.{kind}.jsonl"


def _may_overlap(counts: Sequence[Sequence[int]]) -> bool:
    """Whether a request may be among both kinds. One attempt writes it once."""
    return sum(map(any, counts)) > 1 and all(map(any, zip(*counts, strict=True)))


def _number(line: bytes) -> int:
    """The request of a line that begins with its id: `{"id":"batch_req_…_12"`."""
    return int(line.split(b'"', 4)[3].rpartition(b"_")[2])
