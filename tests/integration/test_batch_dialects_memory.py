"""A batch of 50,000 requests goes through each dialect in bounded memory, from its translation to its results."""

import asyncio
import json
import os
import sys
from dataclasses import asdict

import pytest

from local.places import ROOT
from local.provider import Simulator
from tests.support.batch_dialects import BatchDialect
from tests.support.batch_driver import CHAT, dialects
from tests.support.uploads import MIB

pytest_plugins = ("tests.support.provider_fixtures",)

BYTES = 96 * MIB
CHARACTERS = 220
"""Of each prompt. `bench.batch_memory` measures prompts of the usual length."""


@pytest.mark.parametrize("dialect", dialects(lambda one: one.route == CHAT))
async def test_a_large_batch_takes_bounded_memory(dialect: BatchDialect, simulated_provider: Simulator) -> None:
    few, many = max(10, dialect.minimum), dialect.maximum
    endpoint = {name: value for name, value in asdict(dialect.endpoint(simulated_provider, 60.0)).items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.batch_dialect_process", dialect.provider, json.dumps(endpoint),
        str(CHARACTERS), str(few), str(many),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "layers/common:functions:."},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    (first, before), (second, after) = [map(int, line.split()) for line in output.splitlines()]

    assert (first, second) == (few, many)
    assert after - before < BYTES
