"""The scheduler: it alone decides what goes on next, by one seeded random generator.

Everything that has an effect outside of its own memory calls `point` first, and waits there. When all tasks wait, the
scheduler lets one of them go on, or starts something new, or lets time pass. So a seed gives the same run each time.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.faults.environments import Environment, Killed, current, name_of
from tests.faults.trace import Trace

Choice = Callable[[], None]
"""Something that may happen next."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A task that waits at a point."""

    actor: str
    what: str
    environment: Environment | None
    gate: "asyncio.Future[None]"
    passable: Callable[[], bool] | None
    """Whether it may go on; `None`: always."""


MOST_STEPS = 30_000
"""After so many a run is given up: it does not come to rest."""


class Restless(Exception):
    """The run goes on and on."""


class Scheduler:
    """Lets one task at a time go on. `stickiness` is how probable it is that the same actor goes on as before."""

    def __init__(self, random: Random, trace: Trace, *, stickiness: float, kill_rate: float) -> None:
        self.random = random
        self.trace = trace
        self.stickiness = stickiness
        self.kill_rate = kill_rate
        self.decided = 0
        """How often something was decided."""
        self.stopped = False
        """Whether the run is over: nothing has an effect any more."""
        self.granted = 0
        """How often a task was let go on."""
        self.more: Callable[[], Sequence[tuple[float, Choice]]] = lambda: ()
        """What may happen besides, each with its weight; one ticket has the weight 1."""
        self.pass_time: Callable[[float | None], None] = lambda _: None
        """Called when nothing else may happen."""
        self._tickets: list[Ticket] = []
        self._last = ""

    async def point(self, what: str, passable: Callable[[], bool] | None = None) -> None:
        """Wait until the scheduler lets this task go on. Raises `Killed` if its environment was killed."""
        environment = current()
        if self.stopped or (environment is not None and environment.dead):
            raise Killed(what)
        gate = asyncio.get_running_loop().create_future()
        ticket = Ticket(name_of(environment), what, environment, gate, passable)
        self._tickets.append(ticket)
        try:
            await gate
        finally:
            if ticket in self._tickets:
                self._tickets.remove(ticket)

    def idle(self, timeout: float | None) -> None:
        """Decide what happens next; every task waits. Raises `Restless`."""
        self.decided += 1
        if self.decided == MOST_STEPS:
            self.stopped = True
            raise Restless(f"not at rest after {MOST_STEPS} steps")
        if self.stopped:
            self._kill_all(timeout)
            return
        tickets = [one for one in self._tickets if not one.gate.done() and (one.passable is None or one.passable())]
        sticky = [one for one in tickets if one.actor == self._last]
        if sticky and self.random.random() < self.stickiness:
            self._grant(self.random.choice(sticky))
            return
        choices: list[tuple[float, Choice]] = [(1.0, partial(self._grant, one)) for one in tickets]
        choices.extend(self.more())
        if not choices:
            self.pass_time(timeout)
            return
        [chosen] = self.random.choices([choice for _, choice in choices], [weight for weight, _ in choices])
        chosen()

    def _grant(self, ticket: Ticket) -> None:
        self.granted += 1
        self._last = ticket.actor
        environment = ticket.environment
        if environment is not None and self.kill_rate and self.random.random() < self.kill_rate:
            self.trace.add(ticket.actor, f"KILLED before {ticket.what}")
            self.kill(environment)
            return
        self.trace.step(ticket.actor, ticket.what)
        ticket.gate.set_result(None)

    def _kill_all(self, timeout: float | None) -> None:
        for ticket in self._tickets:
            if not ticket.gate.done():
                ticket.gate.set_exception(Killed(ticket.what))
        self.pass_time(timeout)

    def kill(self, environment: Environment) -> None:
        """Kill an environment: all its tasks that wait at a point end there, without a further effect."""
        environment.kill()
        for ticket in self._tickets:
            if ticket.environment is environment and not ticket.gate.done():
                ticket.gate.set_exception(Killed(ticket.what))
