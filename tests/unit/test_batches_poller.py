"""One run of the schedule: the sweep first, and the polls only if they still fit into the function's time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from batches import poller
from manifold.errors import Unavailable


class Store:
    """Postgres, which answers."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield


class Awake:
    """An idleness that never lets the poller rest."""

    quiet = False

    async def rests(self) -> bool:
        return False


CONFIG = SimpleNamespace(by_id={}, calls_retention=None, batch_retention=None)
PARTS = SimpleNamespace(store=Store(), queue=None, config=CONFIG)


@pytest.fixture(autouse=True)
def awake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "idleness", Awake)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Engine:
    """Polls as many batches as it may."""

    async def poll_due(self, limit: int) -> int:
        return limit


@pytest.mark.parametrize(("seconds", "polled"), [(0.0, poller.MANY), (24.0, poller.MANY), (26.0, 0)])
async def test_nothing_is_claimed_after_a_sweep_that_took_too_long(
    seconds: float, polled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    class Sweep:
        def __init__(self, *parts: object) -> None:
            pass

        async def run(self) -> int:
            clock.now += seconds
            return 3

    monkeypatch.setattr(poller, "time", clock)
    monkeypatch.setattr(poller, "Sweep", Sweep)
    monkeypatch.setattr(poller, "engine", Engine)
    monkeypatch.setattr(poller, "gateway", PARTS)

    assert await poller.poll() == {"polled": polled, "resent": 3}


async def test_a_sweep_that_fails_does_not_keep_jobs_from_being_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sweep:
        def __init__(self, *parts: object) -> None:
            pass

        async def run(self) -> int:
            raise Unavailable("The database did not answer.")

    monkeypatch.setattr(poller, "Sweep", Sweep)
    monkeypatch.setattr(poller, "engine", Engine)
    monkeypatch.setattr(poller, "gateway", PARTS)

    assert await poller.poll() == {"polled": poller.MANY, "resent": 0}
