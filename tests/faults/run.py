"""Runs by seed, and how one that fails is told."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from manifold import observe
from manifold.auth import key_hash
from manifold.dispatch import group_attempts
from manifold.errors import ManifoldError
from tests.faults import due, invariants
from tests.faults.clock import BASE
from tests.faults.database import ServerDatabase
from tests.faults.dialects import providers_of
from tests.faults.environments import current, name_of
from tests.faults.own_invariants import OWN_INVARIANTS
from tests.faults.own_server import OwnServer
from tests.faults.simulation import Simulation


class Broken(AssertionError):
    """A run after which an invariant does not hold."""


def run(database: ServerDatabase, seed: int, *, steps: int = 60, dialect: str | None = None) -> Simulation:
    """One run, whose providers are those of a dialect or, by default, of none. Raises `Broken` with the seed, the
    broken invariants, and a trace: all actions and faults, and the last `steps` steps."""
    name = f"SEED={seed}" + (f" DIALECT={dialect}" if dialect else "")
    database.empty(int(BASE * 1e6))
    with ExitStack() as end:
        simulation = Simulation(database, seed, providers_of(dialect), end)
        end.enter_context(_deterministic(simulation))
        if isinstance(simulation.providers, OwnServer):
            end.enter_context(simulation.providers.applied())
        runner = end.enter_context(asyncio.Runner(loop_factory=lambda: simulation.loop))
        simulation.loop.set_exception_handler(lambda loop, context: None)
        _add_owners(simulation)
        try:
            runner.run(simulation.live())
        except Exception as error:
            simulation.scheduler.stopped = True
            raise Broken(_told(simulation, name, [f"the run did not end: {error!r}"], steps)) from error
        broken = invariants.broken(simulation)
        if isinstance(simulation.providers, OwnServer):
            broken += invariants.told(simulation, OWN_INVARIANTS)
    if broken:
        raise Broken(_told(simulation, name, broken, steps))
    return simulation


def _told(simulation: Simulation, name: str, broken: list[str], steps: int) -> str:
    what = "\n".join(f"  - {one}" for one in broken)
    left = "\n".join(f"  {name}" for name, _ in due.rows(simulation.database))
    return f"make test-faults {name}:\n{what}\nstill due:\n{left}\n{simulation.trace.text(steps)}"


def _add_owners(simulation: Simulation) -> None:
    for client in simulation.clients:
        key = client.caller.key_id or ""
        simulation.database.execute(
            "INSERT INTO api_keys (id, token_hash, name) VALUES (%s, %s, %s)", (key, key_hash(key), key)
        )


@contextmanager
def _deterministic(simulation: Simulation) -> Iterator[None]:
    """Take what is random or timed from the run, and write what the gateway logs into the trace."""
    random, clock = simulation.random, simulation.clock
    with ExitStack() as patches:
        for target, name, value in (
            (secrets, "randbelow", random.randrange),
            (secrets, "token_bytes", random.randbytes),
            (secrets, "token_hex", lambda size=8: random.randbytes(size).hex()),
            (time, "time", clock.now),
        ):
            patches.enter_context(patch.object(target, name, value))
        patches.enter_context(patch.object(group_attempts, "_random", random))
        for name in ("botocore.auth.get_current_datetime", "google.auth._helpers.utcnow"):
            patches.enter_context(patch(name, lambda: datetime.fromtimestamp(clock.now(), UTC).replace(tzinfo=None)))
        patches.enter_context(patch("batches.submission.Random", lambda: random))
        patches.enter_context(patch("manifold.store.time_limit._shut", lambda connection: connection.drop()))
        for name in ("event", "warning", "failed", "fault", "count"):
            patches.enter_context(patch.object(observe, name, _logged(simulation, name)))
        yield


def _logged(simulation: Simulation, kind: str) -> Any:
    def log(what: Any, *more: Any, **fields: Any) -> None:
        if kind == "count":
            return
        cause = " ".join(str(getattr(one, "message", one)) for one in more)
        values = " ".join(f"{name}={value}" for name, value in fields.items())
        simulation.trace.add(name_of(current()), f"{kind}: {what!s} {cause} {values}")
        if kind == "fault" and not isinstance(what, ManifoldError):
            simulation.unexpected.append(what)

    return log
