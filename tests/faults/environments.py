"""The environments of functions, as Lambda starts them: each works on one thing at a time, and may be killed in it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

Work = Coroutine[Any, Any, Any]


class Killed(BaseException):
    """The environment was killed in the middle of its work. No `except Exception` catches it."""


@dataclass(eq=False)
class Environment:
    """One environment. What runs in it finds it with `current`."""

    name: str
    seconds: float = 29.0
    """How long it may work on one thing; then it is killed."""
    deadline: float = 0.0
    """When that time is over, for what it works on now (Unix seconds)."""
    dead: bool = False
    task: "asyncio.Task[Any] | None" = None
    """What it works on."""
    on_kill: list[Callable[[], None]] = field(default_factory=list)
    """What becomes of its connections."""

    def start(self, work: Work, now: float) -> "asyncio.Task[Any]":
        """Begin to work on this."""
        self.deadline = now + self.seconds
        context = copy_context()
        context.run(_current.set, self)
        self.task = asyncio.get_running_loop().create_task(work, context=context)
        self.task.add_done_callback(_retrieve)
        return self.task

    def kill(self) -> None:
        """End it as a crash does: nothing that it does from now on has an effect."""
        self.dead = True
        for act in self.on_kill:
            act()
        if self.task is not None:
            self.task.cancel()

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


_current: ContextVar[Environment] = ContextVar("environment")


def current() -> Environment | None:
    """The environment in which the caller runs; `None` for a client."""
    return _current.get(None)


def name_of(environment: Environment | None) -> str:
    """How the trace names it."""
    return environment.name if environment else "client"


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at how it ended, so that asyncio does not warn that nobody did."""
    if not task.cancelled():
        task.exception()
