"""What an environment of a function does before its first invocation and around a snapshot, in the test's process."""

import asyncio
import random
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from functools import cache

import pytest

from completions import app as completions
from manifold import lifecycle
from manifold.errors import ConfigError
from manifold.gateway import Gateway
from manifold.lifecycle import Lifecycle
from manifold.providers import registry
from manifold.secrets import Secrets
from tests.support import gateways, postgres


async def ended(database_url: str) -> None:
    """Wait until Postgres has noticed that the connections are closed."""
    async with asyncio.timeout(5):
        while postgres.connections(database_url):  # noqa: ASYNC110 (Postgres does not tell)
            await asyncio.sleep(0.01)


@pytest.fixture
async def made(gateway: Gateway, database_url: str) -> AsyncIterator[Lifecycle]:
    postgres.disconnect(database_url)
    yield Lifecycle(gateway, cache(lambda: object()))
    await registry.close_providers()


async def test_a_snapshot_closes_what_was_open(made: Lifecycle, gateway: Gateway, database_url: str) -> None:
    await made.prepare()
    session = registry._completion_client()._open()
    assert postgres.connections(database_url) == 1
    await made.before_snapshot()
    assert session.closed
    await ended(database_url)


async def test_nothing_that_was_read_is_in_a_snapshot(made: Lifecycle, gateway: Gateway) -> None:
    await made.prepare()
    config, deployments, keys = gateway.config, gateway.deployments, gateway.keys
    await made.before_snapshot()
    await made.after_restore()
    assert gateway.config is not config
    assert gateway.deployments is not deployments
    assert gateway.keys is not keys


async def test_the_parts_of_the_function_are_made_anew(gateway: Gateway) -> None:
    calls = list[int]()
    made = Lifecycle(gateway, cache(lambda: calls.append(1)))
    await made.prepare()
    assert calls == [1]
    await made.before_snapshot()
    await made.after_restore()
    assert calls == [1, 1]


async def test_each_environment_has_random_numbers_of_its_own(made: Lifecycle) -> None:
    state = random.getstate()
    await made.before_snapshot()
    numbers = set()
    for _ in range(2):
        random.setstate(state)  # as the snapshot has it
        await made.after_restore()
        numbers.add(random.random())
    random.setstate(state)
    assert len(numbers | {random.random()}) == 3


def test_no_module_of_the_function_has_a_random_state() -> None:
    assert completions.app
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("manifold", "completions")]
    assert len(ours) > 50
    for module in ours:
        states = [value for value in vars(module).values() if isinstance(value, random.Random)]
        assert all(isinstance(one, random.SystemRandom) for one in states), module.__name__


async def test_a_start_does_not_wait_for_a_secret_that_does_not_come(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else would wait for the one fetch, without a limit, as it needs the secret."""
    monkeypatch.setattr(lifecycle, "SECRET_SECONDS", 0.05)
    comes = threading.Event()

    def fetch(arn: str) -> dict[str, str]:
        comes.wait(20)
        return {"MANIFOLD_MASTER_KEY": "sk-master"}

    gateway.secrets = Secrets("arn:aws:secretsmanager:us-east-1:1:secret:x", {})
    monkeypatch.setattr(gateway.secrets, "_fetch", fetch)
    gateway.__dict__.pop("config", None)
    built = list[int]()
    began = time.monotonic()
    await Lifecycle(gateway, cache(lambda: built.append(1))).prepare()
    assert (built, time.monotonic() - began < 5) == ([], True)
    comes.set()


async def test_a_start_does_not_wait_for_a_server_that_does_not_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://127.0.0.1:{server.getsockname()[1]}/manifold"
        gateway.secrets = Secrets(None, {"DATABASE_URL": url, "MANIFOLD_MASTER_KEY": "sk-master"})
        async with asyncio.timeout(5):
            await Lifecycle(gateway, cache(lambda: object())).prepare()
        assert gateway.store.database._connection is None


async def test_a_start_survives_a_configuration_that_is_wrong(gateway: Gateway, database_url: str) -> None:
    wrong = gateways.gateway(database_url, {"MANIFOLD_CONFIG": "/none.yaml"})
    await Lifecycle(wrong, cache(lambda: object())).prepare(connect=False)
    with pytest.raises(ConfigError):
        assert wrong.config
