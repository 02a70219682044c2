"""Own execution under random faults, by seed: the provider's own log is the witness of what was paid.

Workers are killed at any of their steps, messages are lost, repeated and reordered, the provider fails, refuses and
cuts answers. Then the faults end, and the batch must, too.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from local.provider import Fault
from tests.support.own_execution import ACCOUNT, CALLS, GROUP, calls, created, results
from tests.support.provider import chat_lines
from tests.support.system import Killed, System

pytest_plugins = ("tests.support.own_execution",)

LINES = 40
ROUNDS = 12
"""Rounds of half a minute with faults."""
SETTLED_SECONDS = 0.1
"""After so long the provider has begun what a killed worker had sent."""
MOST_STEPS = 80
"""Steps of a worker, of which one is its last where it is killed."""


class Run:
    """One batch, and what may have been paid twice."""

    def __init__(self, system: System, seed: int, group: str) -> None:
        self.system = system
        self.random = Random(seed)
        self.group = group
        self.batch_id = ""
        self.excused = Counter[str]()
        """How often each prompt may be paid again: it was answered, but not written, when a worker was killed."""

    async def live(self) -> None:
        self.batch_id = await created(self.system, chat_lines(self.group, LINES))
        for _ in range(ROUNDS):
            self._fail()
            await self._deliver()
            self.system.age(30)
            await self.system.run_schedule()
        self.system.provider.state.faults.clear()
        self.system.age(600)
        await self.system.run_schedule()

    def _fail(self) -> None:
        """Have some of the next calls fail."""
        if self.random.random() < 0.6:
            how = self.random.choice(
                ({"kind": "error"}, {"kind": "error", "status": 503}, {"kind": "cut"}, {"kind": "rate_limit"})
            )
            times = self.random.choice((1, 3, 20))
            fault = {**how, "account": ACCOUNT, "route": CALLS, "times": times, "retry_after": "1"}
            self.system.provider.fail(Fault.model_validate(fault))

    async def _deliver(self) -> None:
        """Deliver what waits, with losses and repetitions, each to a worker that may be killed."""
        queue = self.system.queue
        waiting, queue.messages = queue.messages, []
        waiting += [message for message in waiting if self.random.random() < 0.2]
        self.random.shuffle(waiting)
        for message in waiting:
            if self.random.random() < 0.1:
                continue
            points = self.system.crash_points
            points.reached.clear()
            points.kill_at = self.random.randint(1, MOST_STEPS) if self.random.random() < 0.4 else None
            try:
                await self.system.deliver(message)
            except Killed:
                await self.system.restart()
                await asyncio.sleep(SETTLED_SECONDS)
                self._excuse()
            finally:
                self.system.crash_points.kill_at = None

    def _excuse(self) -> None:
        """A worker was killed: what is paid and not written may be paid again."""
        written = {prompt_of(custom_id) for custom_id in self._written()}
        self.excused.update(prompt for prompt in self.paid() if prompt not in written)

    def _written(self) -> Iterator[str]:
        for key in self.system.stored():
            if "/chunk_" in key or key.startswith("files/"):
                content = self.system.object(key).decode()
                yield from (part.partition('"')[0] for part in content.split('"custom_id":"')[1:])

    def paid(self) -> Counter[str]:
        """How often the provider began to answer each prompt."""
        return Counter(prompt for entry in calls(self.system) for prompt in entry.get("prompts", ()))

    def cut(self) -> Counter[str]:
        """The prompts whose answers were cut, or failed at their end: paid, and called again."""
        return Counter(
            prompt for entry in calls(self.system) if entry.get("status") != 200 for prompt in entry.get("prompts", ())
        )


def prompt_of(custom_id: str) -> str:
    return custom_id.replace("request-", "hello ")


@pytest.mark.parametrize("group", [GROUP, "one-by-one"])
@pytest.mark.parametrize("seed", range(6))
async def test_every_promise_is_kept(own: System, seed: int, group: str) -> None:
    run = Run(own, seed, group)
    await run.live()
    batch = await own.run_until_ended(run.batch_id, rounds=80)

    answers, errors = results(own, batch.output_file_id), results(own, batch.error_file_id)
    assert batch.status == "completed", batch
    assert not answers.keys() & errors.keys()
    assert answers.keys() | errors.keys() == {f"request-{number}" for number in range(LINES)}
    codes = {one["response"]["body"]["error"]["code"] for one in errors.values()}
    assert codes <= {"provider_error", "provider_overloaded"}
    cut = run.cut()
    for prompt, count in run.paid().items():
        if prompt != "ping":
            assert count <= 1 + run.excused[prompt] + cut[prompt], f"{prompt} was paid {count} times"
    [usage] = own.select("SELECT sum(requests)::int AS requests FROM usage")
    assert usage["requests"] == LINES
    assert own.select("SELECT id FROM chunks WHERE state = 'open'") == []
