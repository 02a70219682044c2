"""Killing a worker of the `System` at each of its steps, in turn."""

from collections.abc import Awaitable, Callable
from itertools import count

from tests.support.system import Killed, System


async def killed_at(system: System, step: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Run the work until it is killed at this step. Whether it reached the step; a new environment is started."""
    system.crash_points.reached.clear()
    system.crash_points.kill_at = step
    try:
        await work()
    except Killed:
        await system.restart()
        return True
    system.crash_points.kill_at = None
    return False


async def at_every_step(system: System, scenario: Callable[[int], Awaitable[bool]]) -> int:
    """Run the scenario, killed at its first step, at its second, … until it is not killed. Returns the steps."""
    for step in count(1):
        await system.reset()
        try:
            killed = await scenario(step)
        except BaseException as error:
            error.add_note(f"killed at step {step}: {system.killed_at}")
            raise
        if not killed:
            return step - 1
    raise AssertionError
