"""The calls that a worker may begin, by what it was granted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batches.execution.permits import FIRST_CALLS, Closed, Permits, Ramp
from manifold.execution.pace import Grant, PaceLimits

GRANT = Grant(calls=64, requests=100, tokens=1000)


def permits(limits: PaceLimits | None = None, grant: Grant = GRANT) -> Permits:
    made = Permits("chunk_1", limits or PaceLimits(), Ramp())
    made.renew(grant)
    return made


class Calls:
    """Calls that wait for their permits, and never end."""

    def __init__(self, of: Permits) -> None:
        self.begun = list[str]()
        self._of = of

    async def make(self, name: str, *, probes: bool = False) -> None:
        async with self._of.at(10, probes=probes):
            self.begun.append(name)
            await asyncio.Event().wait()

    @asynccontextmanager
    async def waiting(self, *names: str) -> AsyncIterator[list[asyncio.Task[None]]]:
        tasks = [asyncio.create_task(self.make(name, probes=name == "probe")) for name in names]
        await settle()
        yield tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_calls_begin_than_were_granted_and_were_answered() -> None:
    some = permits()
    calls = Calls(some)
    async with calls.waiting(*(str(number) for number in range(FIRST_CALLS + 3))):
        assert len(calls.begun) == FIRST_CALLS
        some.ramp.answered(100)
        some.renew(Grant(64))
        await settle()
        assert len(calls.begun) == FIRST_CALLS + 1


async def test_a_probe_goes_first_and_alone() -> None:
    some = permits()
    calls = Calls(some)
    with some.held():
        async with calls.waiting("a", "b", "probe"):
            assert calls.begun == ["probe"]


async def test_who_waits_is_told_that_no_call_begins() -> None:
    some = permits(grant=Grant())
    async with Calls(some).waiting("a", "probe") as (call, probe):
        some.close(probes=False)
        await settle()
        assert isinstance(call.exception(), Closed)
        some.renew(GRANT)
        await settle()
        assert not probe.done(), "a probe still begins"
        some.close()
    with pytest.raises(Closed):
        async with some.at(1, probes=True):
            pass


async def test_calls_wait_for_what_is_left_of_the_minute() -> None:
    some = permits(PaceLimits(rpm=100), Grant(calls=64, requests=2))
    calls = Calls(some)
    async with calls.waiting("a", "b", "c"):
        assert calls.begun == ["a", "b"]
        assert some.claim(5, 10, 30.0).requests == 6


async def test_what_a_call_took_is_charged_and_what_was_not_called_is_not() -> None:
    some = permits()
    async with some.at(10) as permit:
        permit.spend(500)
    async with some.at(10) as permit:
        permit.unused()
    claim = some.claim(0, 0, 30.0)
    assert (claim.unused_requests, claim.unused_tokens) == (99, 500)


async def test_what_was_claimed_in_vain_is_claimed_again() -> None:
    some = permits()
    some.pause(7.0)
    assert some.was_paused.is_set()
    claim = some.claim(1, 10, 30.0)
    some.restore(claim)
    assert some.claim(1, 10, 30.0) == claim
    assert claim.pause == 7.0
    assert 6.0 < some.paused <= 7.0


async def test_a_pause_halves_the_calls_once() -> None:
    some = permits()
    for _ in range(5):
        some.pause(9999.0)
    assert some.ramp.calls == FIRST_CALLS // 2
    assert some.paused <= 300.0


async def test_a_pause_that_is_not_shared_is_kept_here() -> None:
    some = permits()
    some.shares_pauses = False
    some.pause(7.0)
    assert some.claim(1, 10, 30.0).pause == 0.0
    some.renew(GRANT)
    assert some.paused > 6.0
