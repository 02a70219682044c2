"""Many calls at once: all their answers, each in its place, or the first of them that is one."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from manifold import observe
from manifold.dispatch.deadline import OUTRUN
from manifold.errors import CallFailed, ManifoldError

Item = TypeVar("Item")
Found = TypeVar("Found")


async def all_of(items: Sequence[Item], work: Callable[[Item], Awaitable[Found]], workers: int) -> list[Found]:
    """What `work` makes of each item, in their order, with at most `workers` of them under way."""
    found: dict[int, Found] = {}
    waiting = iter(enumerate(items))

    async def work_off() -> None:
        for index, item in waiting:
            found[index] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(workers, len(items))):
            group.create_task(work_off())
    return [found[index] for index in range(len(items))]


async def outcome(work: Awaitable[Found]) -> Found | ManifoldError:
    """What comes of it; an error is a value, so that it takes no other place's answer with it."""
    try:
        return await work
    except ManifoldError as error:
        return error
    except Exception as error:  # a fault of ours, in one place
        observe.fault(error)
        return ManifoldError("The gateway failed to answer. Try again; it has been logged.", code="internal_error")


async def first_of(
    works: Sequence[tuple[str, Coroutine[Any, Any, Found]]], discard: Callable[[Found], Awaitable[None]] | None = None
) -> Found:
    """The first success of these named works. The others have been cancelled and have ended when this returns.

    `discard` is given a success that came at the same moment. If none succeeds, one error tells the cause of each.
    """
    tasks = [asyncio.create_task(outcome(work)) for _, work in works]
    winner: Found | None = None
    try:
        for finished in asyncio.as_completed(tasks):
            found = await finished
            if not isinstance(found, ManifoldError):
                winner = found
                return winner
    finally:
        for found in await _ended(tasks):
            if discard is not None and found is not winner and not isinstance(found, ManifoldError):
                await discard(found)
    raise _none_of([name for name, _ in works], await _ended(tasks))


async def _ended(tasks: Sequence[asyncio.Task[Found]]) -> list[Found]:
    """Cancel what still runs, and return what the others came to."""
    for task in tasks:
        task.cancel(OUTRUN)
    await asyncio.wait(tasks)
    return [task.result() for task in tasks if not task.cancelled()]


def _none_of(names: Sequence[str], errors: Sequence[object]) -> ManifoldError:
    """The one error of all, with the status that they share, else 502."""
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
