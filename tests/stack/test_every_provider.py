"""One model group at every provider with a batch API, on the deployed stack, by the OpenAI SDK as it is."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from local.places import HOME
from local.running import Running
from local.stack import Stack
from tests.support.sdk_scripts import run

CONFIG = Path(__file__).with_name("every_provider.yaml")


@pytest.fixture(scope="module")
def providers() -> list[str]:
    """The deployments of the group. Each has a group of its own, too, with its name."""
    return [entry["model_info"]["id"] for entry in yaml.safe_load(CONFIG.read_text())["model_list"]]


@pytest.fixture(scope="module")
def every_provider(
    request: pytest.FixtureRequest, providers: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A running stack with the group, and with a group for each of its deployments."""
    document = yaml.safe_load(CONFIG.read_text())
    alone = [
        entry | {"model_name": entry["model_info"]["id"], "model_info": {"id": f"{entry['model_info']['id']}-alone"}}
        for entry in document["model_list"]
    ]
    for entry in alone:
        entry["model_info"]["mode"] = "batch"
    document["model_list"] += alone
    config = tmp_path_factory.mktemp("stack") / "config.yaml"
    config.write_text(yaml.safe_dump(document))
    failed = request.session.testsfailed
    stack = Stack(HOME / "test-stack-every-provider", config, simulated=True, given={})
    yield stack.up()
    if request.session.testsfailed > failed:
        stack.abandon()
    else:
        stack.down()


def test_batches_run_unchanged_at_every_provider(every_provider: Running, providers: list[str]) -> None:
    printed = run(sys.executable, "tests/stack/sdk_every_provider.py", every_provider, ",".join(providers), "bedrock")

    assert printed.endswith(f"{40 + len(providers)} batches completed\n")
    with psycopg.connect(every_provider.database_url) as database:
        jobs = Counter(name for (name,) in database.execute("SELECT deployment_id FROM jobs WHERE state = 'settled'"))
    print(sorted(jobs.items()))
    assert {f"{name}-alone" for name in providers} <= jobs.keys()
    in_group = {name: count for name, count in jobs.items() if not name.endswith("-alone")}
    assert sum(in_group.values()) == 40
    assert len(in_group) >= len(providers) // 2
    assert "bedrock" not in in_group, "two requests are fewer than Bedrock takes"
