"""Reads a stream in a task of its own, so that its reader may stop waiting for it and lose nothing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
MOST = 16
"""Items that are read before the first of them is taken: a slow reader slows its source, and others get their turn."""


class ReadAhead(Generic[Item]):
    """Reads `source` while the context is open, and closes it then.

    One task reads the whole of it: one for each item would cost more than most items do.
    """

    def __init__(self, source: AsyncGenerator[Item, None]) -> None:
        self._source = source
        self._items: list[Item] = []
        self._come, self._taken = asyncio.Event(), asyncio.Event()
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self._come.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        if not self._reading.cancelled():
            self._reading.exception()  # which asyncio logs otherwise

    async def take(self, seconds: float) -> list[Item] | None:
        """All that has come and was not taken, none if nothing comes for `seconds`; `None` after the end.

        Raises what ended the source, after all that came before it was taken.
        """
        if not self._items and not self._reading.done():
            self._come.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._come.wait()
        items, self._items = self._items, []
        self._taken.set()
        if items or not self._reading.done():
            return items
        self._reading.result()
        return None

    async def _read(self) -> None:
        async with contextlib.aclosing(self._source):
            async for item in self._source:
                self._items.append(item)
                self._come.set()
                if len(self._items) >= MOST:
                    self._taken.clear()
                    await self._taken.wait()
