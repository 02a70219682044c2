"""A lease that is renewed during work, and what ends the work."""

import asyncio

import pytest

from files.transfers import lease
from files.transfers.lease import MISSES, LeaseLost, run_leased
from manifold.errors import Unavailable


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.0)


class Lease:
    """Answers renewals in turn: held, lost, or no answer. The last answer is repeated."""

    def __init__(self, *answers: bool | None) -> None:
        self._answers = list(answers)
        self.renewals = 0
        self.reached = asyncio.Event()

    async def renew(self, seconds: float) -> bool:
        assert seconds == lease.LEASE_SECONDS
        self.renewals += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if len(self._answers) == 1:
            self.reached.set()
        if answer is None:
            raise Unavailable("The database did not answer.")
        return answer


async def forever() -> None:
    await asyncio.Event().wait()


async def test_it_is_renewed_until_the_work_is_done() -> None:
    held = Lease(True, True, True)

    async def work() -> str:
        await held.reached.wait()
        return "done"

    assert await run_leased(held.renew, work()) == "done"
    renewals = held.renewals
    await asyncio.sleep(0)
    assert held.renewals == renewals


async def test_a_fault_of_the_work_is_its_own() -> None:
    async def work() -> None:
        raise Unavailable("no bucket")

    with pytest.raises(Unavailable, match="no bucket"):
        await run_leased(Lease(True).renew, work())


async def test_work_whose_lease_is_lost_ends_before_that_is_raised() -> None:
    ended = []

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.append(True)

    with pytest.raises(LeaseLost):
        await run_leased(Lease(True, False).renew, work())
    assert ended == [True]


async def test_a_database_that_fails_once_does_not_end_the_work() -> None:
    held = Lease(*[None] * (MISSES - 1), True)

    async def work() -> None:
        await held.reached.wait()

    await run_leased(held.renew, work())


async def test_a_database_that_keeps_failing_ends_the_work_when_the_lease_expires() -> None:
    held = Lease(None)

    with pytest.raises(LeaseLost):
        await run_leased(held.renew, forever())
    assert held.renewals == MISSES


async def test_cancelling_the_lease_cancels_its_work() -> None:
    begun, ended = asyncio.Event(), []

    async def work() -> None:
        try:
            begun.set()
            await forever()
        finally:
            ended.append(True)

    keeping = asyncio.create_task(run_leased(Lease(True).renew, work()))
    await begun.wait()
    keeping.cancel()

    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert ended == [True]
