"""How many jobs one run of the schedule polls."""

from types import SimpleNamespace

import pytest

from batches import poller

PARTS = SimpleNamespace(store=None, queue=None, config=SimpleNamespace(calls_retention=None, batch_retention=None))


class Clock:
    """A clock that advances with each claim."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Engine:
    """A store that always has a full claim of batches to poll; each claim takes ten seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def poll_due(self, many: int, unresponsive: set[str]) -> int:
        self._clock.now += 10
        return many


@pytest.mark.parametrize(("sweep", "claims"), [(0.0, 4), (25.0, 1)])
async def test_the_sweep_counts_against_the_time_for_claims(
    sweep: float, claims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    class Sweep:
        def __init__(self, *parts: object) -> None:
            pass

        async def run(self) -> int:
            clock.now += sweep
            return 3

    monkeypatch.setattr(poller, "time", clock)
    monkeypatch.setattr(poller, "Sweep", Sweep)
    monkeypatch.setattr(poller, "engine", lambda: Engine(clock))
    monkeypatch.setattr(poller, "gateway", PARTS)

    assert await poller.poll() == {"polled": claims * poller.MANY, "resent": 3}
