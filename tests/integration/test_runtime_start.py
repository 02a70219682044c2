"""What the runtime does before the first invocation, and around a snapshot; by itself, and with completions."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.provider import Simulator, defaults
from tests.support import postgres
from tests.support.gateways import MASTER_KEY
from tests.support.runtime_function import Function, function
from tests.support.secrets_manager import SecretsManager, secrets_manager

pytest_plugins = ("tests.support.provider_fixtures",)

PREPARED = {"_HANDLER": "tests.support.prepared_app.handler"}
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
CONFIG = Path(__file__).parents[1] / "support" / "completions.yaml"
BODY = json.dumps({"model": "mini", "messages": [{"role": "user", "content": "Hello"}]})


async def test_a_function_is_prepared_before_it_asks_for_an_invocation() -> None:
    async with function(PREPARED) as prepared:
        await prepared.until(lambda: prepared.api.idle == 1)
        assert await prepared.echo() == {"steps": ["prepare True"]}


async def test_a_snapshot_is_taken_between_its_hooks() -> None:
    async with function(PREPARED | SNAP_START) as prepared:
        invocation = prepared.invoke("/echo")
        await prepared.until(prepared.api.snapshot.is_set)
        assert prepared.api.waiting == 1, "nothing is answered before the restore"
        prepared.api.restore()
        _, content = await invocation.head()
        assert content in (b"", b'{"steps":["prepare False","before_snapshot","after_restore"]}')
        assert await prepared.echo() == {"steps": ["prepare False", "before_snapshot", "after_restore"]}


@pytest.mark.parametrize(
    ("step", "kind"), [("prepare", "Runtime.RuntimeError"), ("before_snapshot", "Runtime.BeforeSnapshotError")]
)
async def test_an_error_before_the_snapshot_is_one_of_the_start(step: str, kind: str) -> None:
    async with function(PREPARED | SNAP_START | {"FAILS_IN": step}) as prepared:
        assert await prepared.process.wait() == 1
        assert prepared.api.init_error is not None
        assert prepared.api.init_error.kind == kind
        assert prepared.api.init_error.details["errorMessage"] == f"{step} failed"
        assert prepared.api.restore_error is None


async def test_an_error_after_the_restore_is_one_of_the_restore() -> None:
    async with function(PREPARED | SNAP_START | {"FAILS_IN": "after_restore"}) as prepared:
        await prepared.until(prepared.api.snapshot.is_set)
        prepared.api.restore()
        assert await prepared.process.wait() == 1
        assert prepared.api.restore_error is not None
        assert prepared.api.restore_error.kind == "Runtime.AfterRestoreError"
        assert prepared.api.restore_error.details["errorMessage"] == "after_restore failed"
        assert prepared.api.init_error is None


class Completions:
    """The completions function, and what it reads."""

    def __init__(self, secret: SecretsManager, database_url: str, provider: Simulator) -> None:
        self.secret = secret
        self._database_url = database_url
        port = int(provider.url.rpartition(":")[2])
        self._variables = {
            **secret.environment,
            **defaults(port),
            "LAMBDA_TASK_ROOT": str(CONFIG.parent),
            "MANIFOLD_CONFIG": CONFIG.name,
            "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
            "_HANDLER": "tests.support.watched_completions.handler",
        }

    def start(self, more: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[Function]:
        return function({**self._variables, **(more or {})})

    def connections(self) -> int:
        """The function's connections, as Postgres counts them."""
        return postgres.connections(self._database_url)


@pytest.fixture
def completions(database_url: str, simulated_provider: Simulator) -> Iterator[Completions]:
    postgres.disconnect(database_url)
    with secrets_manager({"DATABASE_URL": database_url, "MANIFOLD_MASTER_KEY": MASTER_KEY}) as secret:
        yield Completions(secret, database_url, simulated_provider)


async def chat(started: Function, key: str = MASTER_KEY) -> tuple[int, dict[str, Any]]:
    """Status and headers of a completion."""
    head, _ = await started.answer("/chat/completions", body=BODY, method="POST", key=key)
    return head["statusCode"], head["multiValueHeaders"]


async def test_the_first_request_finds_everything_ready(completions: Completions) -> None:
    async with completions.start() as started:
        await started.until(lambda: started.api.idle == 1)
        assert (completions.secret.reads, completions.connections()) == (1, 1)
        status, headers = await chat(started)
        assert status == 200
        assert headers["x-imported"] == [""], "what a request needs is imported at the start"
        assert (completions.secret.reads, completions.connections()) == (1, 1)


async def test_a_start_without_a_secret_leaves_it_to_the_first_request(completions: Completions) -> None:
    completions.secret.refuses = True
    async with completions.start() as started:
        await started.until(lambda: started.api.idle == 1)
        assert (await chat(started))[0] == 500
        completions.secret.refuses = False
        assert (await chat(started))[0] == 200


async def test_a_start_without_postgres_leaves_it_to_the_first_request(completions: Completions) -> None:
    completions.secret.values["DATABASE_URL"] = "postgresql://127.0.0.1:1/"
    async with completions.start() as started:
        await started.until(lambda: started.api.idle == 1)
        assert (await chat(started, "sk-unknown"))[0] == 503


async def test_a_snapshot_has_no_connection_and_no_secret(completions: Completions) -> None:
    async with completions.start(SNAP_START) as started:
        await started.until(started.api.snapshot.is_set)
        assert (completions.secret.reads, completions.connections()) == (1, 0)
        (connection,) = psutil.Process(started.process.pid).net_connections()
        assert connection.raddr.port == int(started.api.address.rpartition(":")[2]), "it is that of the Runtime API"
        completions.secret.values["MANIFOLD_MASTER_KEY"] = "sk-rotated-since-the-snapshot"
        started.api.restore()
        await started.until(lambda: started.api.idle == 1)
        assert (completions.secret.reads, completions.connections()) == (2, 1)
        status, headers = await chat(started, "sk-rotated-since-the-snapshot")
        assert (status, headers["x-imported"]) == (200, [""])
        assert (await chat(started))[0] == 401
