"""The example runs unchanged where the model's only server has no batches: the deployed stack runs them itself."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from local.places import HOME, ROOT
from local.running import Running
from local.stack import Stack
from tests.support.sdk_scripts import run

CONFIG = Path(__file__).with_name("own_execution.yaml")


@pytest.fixture(scope="module")
def own_execution(request: pytest.FixtureRequest) -> Iterator[Running]:
    failed = request.session.testsfailed
    stack = Stack(HOME / "test-stack-own-execution", CONFIG, simulated=True, given={})
    yield stack.up()
    if request.session.testsfailed > failed:
        stack.abandon()
    else:
        stack.down()


def test_the_example_runs_unchanged(own_execution: Running) -> None:
    printed = run(sys.executable, "examples/batch_walkthrough.py", own_execution)

    assert "status: completed" in printed
    log = httpx.get(f"{own_execution.provider_url}/control/log", params={"account": "vllm"}).json()
    paid = Counter(prompt for entry in log for prompt in entry.get("prompts", ()))
    with psycopg.connect(own_execution.database_url) as database:
        executions = database.execute("SELECT execution, state FROM jobs").fetchall()
        [(answered,)] = database.execute("SELECT sum(requests) FROM usage").fetchall()
    assert set(executions) == {("gateway", "settled")}
    requests = [json.loads(line) for line in (ROOT / "examples/request.jsonl").read_text().splitlines()]
    once = Counter(one["body"]["messages"][-1]["content"] for one in requests)
    assert all(count <= once[prompt] * len(executions) for prompt, count in paid.items()), "the example has two batches"
    assert answered <= paid.total() <= answered + len(requests), "the second one is cancelled"
