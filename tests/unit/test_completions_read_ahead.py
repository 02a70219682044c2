"""Reading ahead of a reader that may stop waiting."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

import pytest

from completions.read_ahead import MOST, ReadAhead

FOREVER = 5.0


class Source:
    """A source of these items, with a pause after each; it keeps how far it was read, and whether it was closed."""

    def __init__(self, items: Iterable[int], pause: float = 0.0, error: Exception | None = None) -> None:
        self.read = 0
        self.closed = False
        self._items = items
        self._pause = pause
        self._error = error

    async def all(self) -> AsyncGenerator[int, None]:
        try:
            for item in self._items:
                self.read += 1
                yield item
                if self._pause:
                    await asyncio.sleep(self._pause)
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def taken(coming: ReadAhead[int]) -> list[list[int]]:
    takes = []
    while (items := await coming.take(FOREVER)) is not None:
        takes.append(items)
    return takes


async def test_what_comes_at_once_is_taken_at_once() -> None:
    async with ReadAhead(Source(range(5)).all()) as coming:
        assert await taken(coming) == [[0, 1, 2, 3, 4]]
        assert await coming.take(FOREVER) is None


async def test_what_comes_after_a_pause_is_taken_when_it_comes() -> None:
    async with ReadAhead(Source(range(3), pause=0.01).all()) as coming:
        assert await taken(coming) == [[0], [1], [2]]


async def test_a_reader_that_gives_up_waiting_loses_nothing() -> None:
    async with ReadAhead(Source(range(2), pause=0.05).all()) as coming:
        takes = [await coming.take(0.005) for _ in range(4)]
        assert takes == [[0], [], [], []]
        assert await taken(coming) == [[1]]


async def test_a_slow_reader_slows_its_source() -> None:
    source = Source(range(3 * MOST))
    async with ReadAhead(source.all()) as coming:
        await asyncio.sleep(0.01)
        assert source.read == MOST
        assert await taken(coming) == [list(range(at, at + MOST)) for at in (0, MOST, 2 * MOST)]


async def test_an_error_comes_after_all_that_came_before_it() -> None:
    async with ReadAhead(Source(range(2), error=ValueError("broke off")).all()) as coming:
        assert await coming.take(FOREVER) == [0, 1]
        with pytest.raises(ValueError, match="broke off"):
            await coming.take(FOREVER)


@pytest.mark.parametrize("items", [0, 1, MOST])
async def test_a_reader_that_leaves_closes_the_source(items: int) -> None:
    source = Source(range(2 * MOST), pause=0.0 if items == MOST else FOREVER)
    async with ReadAhead(source.all()) as coming:
        if items:
            assert len(await coming.take(FOREVER) or ()) == items
        else:
            await asyncio.sleep(0)
    assert source.closed


async def test_an_error_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with ReadAhead(Source((), error=ValueError("broke off")).all()):
        await asyncio.sleep(0.01)
    assert caplog.records == []
