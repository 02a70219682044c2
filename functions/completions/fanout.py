"""Many calls at once: what comes of each, in its place, or the first that succeeds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from manifold import observe
from manifold.dispatch.deadline import OUTRUN
from manifold.errors import CallFailed, ManifoldError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD_BYTES = 16 * 1024 * 1024
"""Of answers that wait for an earlier one: so many hold back the calls that have not begun."""
MAX_AHEAD_BYTES = 64 * 1024 * 1024
"""Of answers that wait for an earlier one: one that does not fit is given up."""


class InOrder(Generic[Item]):
    """What comes of each item as bytes, in the items' order, each as soon as it and those before it are there.

    Within its context `work` makes it, for `workers` items at once; what is under way at the end is cancelled. None is
    begun while `AHEAD_BYTES` wait for an earlier one or for the reader, and what comes once `MAX_AHEAD_BYTES` do is
    replaced by `in_place`.
    """

    def __init__(
        self, items: Sequence[Item], work: Callable[[Item], Awaitable[bytes]], workers: int, in_place: bytes
    ) -> None:
        self._items = items
        self._work = work
        self._workers = workers
        self._in_place = in_place
        self._ready: dict[int, bytes] = {}
        self._ahead = 0
        self._next = 0
        self._came = asyncio.Event()
        self._has_room = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        waiting = iter(enumerate(self._items))
        self._has_room.set()
        for _ in range(min(self._workers, len(self._items))):
            task = asyncio.create_task(self._worker(waiting))
            task.add_done_callback(lambda _: self._came.set())
            self._tasks.append(task)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def results(self, pause: float) -> AsyncIterator[bytes | None]:
        """Each result; `None` after each `pause` seconds without one."""
        while self._next < len(self._items):
            if self._next in self._ready:
                yield self._taken()
            elif not await _set_within(self._came, pause):
                yield None
            else:
                self._came.clear()
                _raise_of(self._tasks)

    async def _worker(self, waiting: Iterator[tuple[int, Item]]) -> None:
        for index, item in waiting:
            await self._has_room.wait()
            result = await self._work(item)
            if index > self._next and self._ahead + len(result) > MAX_AHEAD_BYTES:
                result = self._in_place
            self._ready[index] = result
            self._ahead += len(result)
            self._note_room()
            if index == self._next:
                self._came.set()

    def _taken(self) -> bytes:
        result = self._ready.pop(self._next)
        self._next += 1
        self._ahead -= len(result)
        self._note_room()
        return result

    def _note_room(self) -> None:
        if self._ahead < AHEAD_BYTES:
            self._has_room.set()
        else:
            self._has_room.clear()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _raise_of(workers: Sequence[asyncio.Task[None]]) -> None:
    for worker in workers:
        if worker.done():
            worker.result()


async def outcome(work: Awaitable[Result]) -> Result | ManifoldError:
    """The result, or the error as a value, so that it ends no other call. A fault of ours is logged."""
    try:
        return await work
    except ManifoldError as error:
        return error
    except Exception as error:  # a fault of ours, in one place
        observe.fault(error)
        return ManifoldError("The gateway failed to answer. Try again; it has been logged.", code="internal_error")


async def first_of(
    works: Sequence[tuple[str, Coroutine[Any, Any, Result]]], discard: Callable[[Result], Awaitable[None]] | None = None
) -> Result:
    """The first success of these named works. The others have been cancelled and have ended when this returns.

    `discard` is given each other success, which came at the same moment. If none succeeds, one error has the cause of
    each: `CallFailed`, or the work's own where there was only one.
    """
    tasks = [asyncio.create_task(outcome(work)) for _, work in works]
    winner: Result | None = None
    try:
        for finished in asyncio.as_completed(tasks):
            result = await finished
            if not isinstance(result, ManifoldError):
                winner = result
                return winner
    finally:
        for result in await _ended(tasks):
            if discard is not None and result is not winner and not isinstance(result, ManifoldError):
                await discard(result)
    raise _none_of([name for name, _ in works], await _ended(tasks))


async def _ended(tasks: Sequence[asyncio.Task[Result]]) -> list[Result]:
    """Cancel those that still run, and return the results of the others."""
    for task in tasks:
        task.cancel(OUTRUN)
    await asyncio.wait(tasks)
    return [task.result() for task in tasks if not task.cancelled()]


def _none_of(names: Sequence[str], errors: Sequence[object]) -> ManifoldError:
    """One error for all of them, with the status that they share, else 502."""
    failures = [error for error in errors if isinstance(error, ManifoldError)]
    if len(failures) == 1:
        return failures[0]
    statuses, types = {error.status for error in failures}, {error.type for error in failures}
    waits = [error.retry_after for error in failures if isinstance(error, CallFailed) and error.retry_after is not None]
    causes = " ".join(f"{name}: {error.message}" for name, error in zip(names, failures, strict=True))
    return CallFailed(
        f"No model answered. {causes}",
        status=statuses.pop() if len(statuses) == 1 else 502,
        type=types.pop() if len(types) == 1 else "server_error",
        code="no_model_answered",
        retry_after=min(waits, default=None),
    )
