"""Batches that the gateway itself runs: a `System` with `own_execution.yaml`, and what tests ask of it.

A test module has it by `pytest_plugins = ("tests.support.own_execution",)`.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local.provider import Simulator
from manifold.providers.registry import close_providers
from manifold.schemas import Batch
from tests.support.aws import Aws
from tests.support.system import FAST_PACE, System

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")

CONFIG = "../tests/support/own_execution.yaml"
GROUP = "own-batch"
ACCOUNT = "vllm"
"""The server without batches."""
CALLS = "chat.create"


@pytest.fixture
async def own(database_url: str, simulated_provider: Simulator, aws: Aws) -> AsyncIterator[System]:
    simulated_provider.state.batches.pace = FAST_PACE
    made = System(database_url, simulated_provider, aws, config=CONFIG)
    yield made
    await made.close()
    await close_providers()


async def created(system: System, content: bytes, **fields: Any) -> str:
    """A batch of these lines, whose messages wait in the queue."""
    return (await system.create((await system.upload(content)).id, **fields)).id


async def run_batch(system: System, content: bytes, **fields: Any) -> Batch:
    return await system.run_until_ended(await created(system, content, **fields))


def results(system: System, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a result file, by their `custom_id`, of which each is there once."""
    lines = [json.loads(line) for line in system.content(file_id).splitlines()] if file_id else []
    by_id = {line["custom_id"]: line for line in lines}
    assert len(by_id) == len(lines)
    return by_id


def calls(system: System, account: str = ACCOUNT) -> list[dict[str, Any]]:
    """The completions that the provider was asked for, the oldest first."""
    return [one for one in system.provider.log(account) if one["route"] == CALLS]


def assert_complete(system: System, batch: Batch, count: int, group: str = GROUP) -> None:
    """Each request is answered once, by the group's name, and none of it is left to run."""
    assert (batch.status, batch.errors, batch.error_file_id) == ("completed", None, None), batch
    answers = results(system, batch.output_file_id)
    assert set(answers) == {f"request-{number}" for number in range(count)}
    assert {one["response"]["body"]["model"] for one in answers.values()} == {group}
    assert system.select("SELECT id FROM chunks WHERE state <> 'ended'") == []
