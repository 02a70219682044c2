"""Many calls at once: the outcome of each, in its place, or the first that succeeds."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from manifold import observe
from manifold.dispatch.deadline import OUTRUN
from manifold.errors import CallFailed, ManifoldError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def all_of(items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], workers: int) -> list[Result]:
    """The result of `work` for each item, in their order, with at most `workers` of them under way."""
    results: dict[int, Result] = {}
    waiting = iter(enumerate(items))

    async def worker() -> None:
        for index, item in waiting:
            results[index] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(workers, len(items))):
            group.create_task(worker())
    return [results[index] for index in range(len(items))]


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
