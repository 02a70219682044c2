"""An event loop without I/O, whose time is simulated: what happens next is decided, and never depends on a machine."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, cast

Idle = Callable[[float | None], None]
"""Called when no task can go on; its argument is the seconds to the next timer, `None` if there is none."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still unless `advance` moves it. Work for threads is done at once, in this one."""

    def __init__(self, idle: Idle) -> None:
        self._now = 0.0
        super().__init__(_Selector(idle))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let this much time pass. Timers that are due then go off when the loop goes on."""
        self._now += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class _Selector(selectors.SelectSelector):
    """Waits for nothing: where the loop would wait, it asks what is to happen next."""

    def __init__(self, idle: Idle) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._idle(timeout)
        return []


def running() -> SimulatedLoop:
    """The simulated loop that runs now."""
    return cast(SimulatedLoop, asyncio.get_running_loop())
