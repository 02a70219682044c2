"""The `custom_id` of each request of a shard, by its number: eight bytes a request in memory, the ids on the disk."""

from array import array
from collections.abc import AsyncIterator
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import Self

HELD_BYTES = 4 * 1024 * 1024
"""Bytes of ids in memory; if they have more, all are on the disk."""


class CustomIdIndex:
    """The ids in the order of the lines. Close it, or use it in a `with` block, to give the disk back."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 (closed by `__exit__`)
        self._ends = array("Q", (0,))

    @classmethod
    async def of(cls, ids: AsyncIterator[list[str]]) -> Self:
        """The index of these ids, which come some at a time. Where they break off, nothing of it is left."""
        index = cls()
        with ExitStack() as unfinished:
            unfinished.enter_context(index)
            async for some in ids:
                index.extend(some)
            unfinished.pop_all()
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def extend(self, custom_ids: list[str]) -> None:
        """Add the ids of the requests that come next. `get` is for when all are there."""
        encoded = [custom_id.encode() for custom_id in custom_ids]
        end = self._ends[-1]
        for one in encoded:
            end += len(one)
            self._ends.append(end)
        self._file.write(b"".join(encoded))

    def get(self, number: int) -> str | None:
        """The id of the request with this number, from 0; `None` if there is no such request."""
        if number >= len(self):
            return None
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode()
