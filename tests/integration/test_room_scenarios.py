"""Many batches of many owners at deployments with quotas: all complete, in their turns, and no quota is exceeded."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from batches.room import PATIENCE_SECONDS
from local.provider import Simulator
from local.provider.quotas import ModelUse, Quota
from manifold.jsonl.token_estimate import request_tokens
from manifold.providers.registry import close_providers
from tests.support.aws import Aws
from tests.support.divided_batches import DEPLOYMENTS, GROUP, Limits, enforce, write_config
from tests.support.owners import add_keys, create_as, upload_as
from tests.support.provider import chat_line
from tests.support.system import FAST_PACE, System

pytest_plugins = ("tests.support.system_fixtures",)

THREE = ("general", "special", "mini")
BODY = {"model": GROUP, "messages": [{"role": "user", "content": "hello"}]}
UNIT = request_tokens(BODY)
"""The tokens of one line."""
LIMIT = 12
"""The quota of each deployment, in lines."""
SIZES = (1, 2, 3, 5, 8)
"""Lines of a batch."""
OWNERS = [f"owner-{number:02}" for number in range(20)]


def lines(count: int) -> bytes:
    return b"".join(chat_line(GROUP, f"request-{number}") for number in range(count))


class Wait(NamedTuple):
    """Seconds from an owner's first create to its first job, and to its last."""

    first: float
    last: float


class Scenario:
    """A system whose batches belong to several owners."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.files: dict[tuple[str, int], str] = {}

    async def create(self, owner: str, size: int) -> str:
        if (owner, size) not in self.files:
            self.files[owner, size] = await upload_as(self.system, owner, lines(size))
        return await create_as(self.system, owner, self.files[owner, size])

    async def run(self, rounds: int) -> int:
        """Let half a minute pass after half a minute until every batch has ended; returns how many that were.

        What is submitted ends at its provider only when the schedule polls it.
        """
        for number in range(rounds):
            self.stall("in_progress")
            await self.system.deliver_all()
            if not self.system.select("SELECT 1 FROM batches WHERE due_at IS NOT NULL LIMIT 1"):
                return number
            self.system.age(30)
            self.stall(None)
            await self.system.run_schedule()
        waiting = self.system.select("SELECT state, waiting_for, line_at FROM shards WHERE state <> 'ended'")
        raise AssertionError(f"not ended: {waiting}")

    def stall(self, state: str | None) -> None:
        for deployment_id in THREE:
            self.system.provider.state.stall(DEPLOYMENTS[deployment_id][0], state)

    def uses(self) -> list[ModelUse]:
        return [self.system.provider.use(DEPLOYMENTS[one][0], DEPLOYMENTS[one][2]) for one in THREE]

    def statuses(self) -> Counter[str]:
        return Counter(row["status"] for row in self.system.select("SELECT status FROM batches"))

    def starts(self) -> dict[str, list[float]]:
        """When each owner's jobs were written, after its first shard."""
        rows = self.system.select(
            """SELECT b.key_id AS owner, array_agg(extract(epoch FROM j.created_at - first.at)::float8
                   ORDER BY j.created_at) AS starts
               FROM jobs j JOIN batches b ON b.id = j.batch_id JOIN (
                   SELECT b.key_id, min(s.created_at) AS at FROM shards s JOIN batches b ON b.id = s.batch_id GROUP BY 1
               ) first USING (key_id) GROUP BY 1 ORDER BY 1"""
        )
        return {row["owner"]: row["starts"] for row in rows}

    def waits(self) -> list[Wait]:
        """Each owner's, in the order of their names."""
        return [Wait(starts[0], starts[-1]) for starts in self.starts().values()]

    def longest_gap(self) -> float:
        """The longest time for which an owner with shards that wait got no turn."""
        return max(later - one for starts in self.starts().values() for one, later in pairwise([0.0, *starts]))


Start = Callable[[Limits], Awaitable[Scenario]]


@pytest.fixture
async def start(database_url: str, simulated_provider: Simulator, aws: Aws, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the system with deployments of these limits."""
    systems: list[System] = []

    async def begin(limits: Limits) -> Scenario:
        simulated_provider.state.batches.pace = FAST_PACE
        system = System(database_url, simulated_provider, aws, write_config(tmp_path / "config.yaml", limits))
        systems.append(system)
        await add_keys(system, OWNERS)
        return Scenario(system)

    yield begin
    for system in systems:
        await system.close()
    await close_providers()


async def test_two_hundred_batches_of_twenty_owners_at_three_quotas(start: Start) -> None:
    """One owner creates 60 batches, and then 19 others seven or eight each."""
    limits = {deployment_id: {"max_enqueued_tokens": LIMIT * UNIT} for deployment_id in THREE}
    scenario = await start(limits)
    enforce(scenario.system.provider, limits)
    for number in range(60):
        await scenario.create(OWNERS[0], SIZES[number % 5])
    for number in range(140):
        await scenario.create(OWNERS[1 + number % 19], SIZES[number % 7 % 5])

    await scenario.run(rounds=100)

    assert scenario.statuses() == {"completed": 200}
    for use in scenario.uses():
        assert (use.exceeded, use.refused, use.failed) == (False, 0, 0)
        assert use.highest.tokens > 0.8 * LIMIT * UNIT, "the quota is used"
    large, *small = scenario.waits()
    assert max(one.first for one in small) <= 300, "an owner that holds nothing comes first"
    assert max(one.last for one in small) < large.last, "one that wants much waits for longer"
    assert scenario.longest_gap() <= 2 * PATIENCE_SECONDS + 300, "no owner is passed over for longer"


@pytest.mark.parametrize("over", ["refuse", "fail"])
async def test_quotas_that_nobody_configured(start: Start, over: Literal["refuse", "fail"]) -> None:
    """Azure and OpenAI refuse a create, or accept it and fail it later. What is believed shrinks, and grows again."""
    scenario = await start({deployment_id: {} for deployment_id in THREE})
    for account, _, model, _ in (DEPLOYMENTS[one] for one in THREE):
        quota = Quota(max_enqueued_tokens=LIMIT * UNIT, over=over, tokens="estimate")
        scenario.system.provider.limit(account, model, quota)
    for number in range(60):
        await scenario.create(OWNERS[number % 20], SIZES[number % 7 % 5])

    await scenario.run(rounds=100)

    assert scenario.statuses() == {"completed": 60}
    if over == "refuse":
        assert 0 < sum(use.refused for use in scenario.uses()) <= 3 + 60 // 4
    else:
        # all 60 were submitted before the first failure was known
        assert 0 < sum(use.failed for use in scenario.uses()) <= 60 + 3 + 60 // 4


@pytest.mark.parametrize("limits", [{"max_concurrent_batches": 1}, {"max_enqueued_requests": 8}])
async def test_other_limits_hold_too(start: Start, limits: dict[str, int]) -> None:
    of_each = dict.fromkeys(THREE, limits)
    scenario = await start(of_each)
    enforce(scenario.system.provider, of_each)
    for number in range(18):
        await scenario.create(OWNERS[number % 3], SIZES[number % 5])
    await scenario.run(rounds=60)
    assert scenario.statuses() == {"completed": 18}
    assert not any(use.exceeded or use.refused or use.failed for use in scenario.uses())
