"""The statements of a batch's life: as many as docs/performance.md says."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from manifold.queue import Kind
from tests.support.divided_batches import Start, request
from tests.support.system import System

pytest_plugins = ("tests.support.divided_batches_fixtures", "tests.support.query_fixtures")

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
LINES = 30
STEPS = {
    "upload": "`POST /files`",
    "input": "a copy is sent to a provider",
    "create": "`POST /batches`",
    "batch": "it is planned; its first shard is submitted, or has its lines sent",
    "prepare": "a further shard has its lines sent",
    "submit": "a shard whose lines are there is submitted",
    "poll": "a run of the poller finds all jobs ended",
    "job": "the results of a job are stored",
    "settle": "a job is settled, its shard ends, and the batch with the only one",
    "last": "the last of several is settled",
    "join": "the results of all shards are joined, the batch ends",
}


@pytest.fixture
def sent(queries: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements, with the BEGIN and COMMIT of each transaction."""
    enter = psycopg.AsyncTransaction.__aenter__

    async def entered(transaction: Any) -> Any:
        queries.extend(["BEGIN", "COMMIT"])
        return await enter(transaction)

    monkeypatch.setattr(psycopg.AsyncTransaction, "__aenter__", entered)
    return queries


@pytest.mark.parametrize("shards", [1, 3])
async def test_the_statements_of_a_batch(start: Start, sent: list[str], shards: int) -> None:
    system = start({"general": {"max_batch_requests": LINES // shards}})
    counts: dict[str, list[int]] = {}

    def took(step: str) -> None:
        counts.setdefault(step, []).append(len(sent))
        sent.clear()

    file = await system.upload(b"".join(map(request, range(LINES))))
    took("upload")
    await _deliver(system, "input", sent, counts)
    batch = await system.create(file.id)
    took("create")
    await _deliver(system, "batch", sent, counts)
    if shards > 1:
        counts["prepare"] = await _shards(system, sent, shards - 1)
        await _deliver(system, "input", sent, counts)
        counts["submit"] = await _shards(system, sent, shards)
    system.queue.messages.clear()
    system.age(61)
    sent.clear()
    assert await system.engine().poll_due(100) == shards
    took("poll")
    await _deliver(system, "job", sent, counts)
    *counts["settle"], last = await _shards(system, sent, shards)
    counts["last" if shards > 1 else "settle"] = [last]
    await _deliver(system, "join", sent, counts)

    assert (await system.retrieve(batch.id)).status == "completed"
    assert {step: set(several) for step, several in counts.items()} == _written(shards)
    assert sum(map(sum, counts.values())) == _total(shards)


async def _deliver(system: System, kind: Kind, sent: list[str], counts: dict[str, list[int]]) -> None:
    """Deliver the waiting messages of this kind, and count the statements of each."""
    messages = [message for message in system.queue.messages if message.kind == kind]
    for message in messages:
        system.queue.messages.remove(message)
        sent.clear()
        await system.deliver(message)
        counts.setdefault(kind, []).append(len(sent))
    sent.clear()


async def _shards(system: System, sent: list[str], count: int) -> list[int]:
    """Deliver the next messages of so many shards, and count the statements of each."""
    counts: dict[str, list[int]] = {}
    await _deliver(system, "shard", sent, counts)
    worked = [statements for statements in counts["shard"] if statements > 1]  # one for a shard that is not due
    assert len(worked) == count
    return worked


def _cells(step: str) -> list[str]:
    section = PAGE.read_text().partition("\n## Statements of a batch\n")[2].partition("\n## ")[0]
    [row] = re.findall(rf"^\| {re.escape(step)} \|(.*)\|$", section, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def _column(shards: int) -> int:
    return 0 if shards == 1 else 1


def _written(shards: int) -> dict[str, set[int]]:
    """The statements of each step, as the page has them for a batch of so many shards."""
    cells = {step: _cells(name)[_column(shards)] for step, name in STEPS.items()}
    return {step: {int(cell)} for step, cell in cells.items() if cell != "-"}


def _total(shards: int) -> int:
    return int(_cells("**all**")[_column(shards)])
