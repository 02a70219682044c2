"""The fixture of benchmarks: every function in this process, a real Postgres with history, and a simulated provider.

S3 and SQS are `bench.in_memory`.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg

from admin import app as admin
from batches import app as batches
from batches import poller
from batches import worker as control
from bench import PATHS, ROOT
from bench.delaying_proxy import delayed
from bench.events import CONTEXT, event
from bench.in_memory import InMemoryQueue, InMemoryStorage
from completions import app as completions
from files import app as files
from files.transfers import worker as transfers
from local.processes import Service, free_port
from local.provider.accounts import DEFAULT_ACCOUNTS
from local.provider.server import defaults
from manifold.auth import key_hash
from manifold.config import Environment
from manifold.gateway import Gateway
from manifold.invocation import run
from manifold.providers.registry import close_providers
from manifold.queue import Queue
from manifold.store import Store, migrations
from tests.support import postgres

MASTER_KEY = "sk-master-of-the-bench"
RUNNING = 50
"""Batches of the caller that run at the provider."""
OWNERS = 100
"""Users with a history; the caller's user is one of them."""
PAST = 100
"""Ended batches of each user, and as many files."""

_GATEWAYS: tuple[Gateway, ...] = (
    admin.app.state.gateway,
    batches.app.state.gateway,
    completions.app.state.gateway,
    files.app.state.gateway,
    control.gateway,
    poller.gateway,
    transfers.gateway,
)


@dataclass
class Fixture:
    """What the caller owns: a virtual key, a file with its inputs, an ended batch and running ones."""

    connection: psycopg.Connection
    key: str = ""
    limited_key: str = ""
    """Another key of the caller's user, which has limits."""
    file_id: str = ""
    inputs: list[str] = field(default_factory=list)
    ended: str = ""
    running: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The store of one of the functions."""
        return _GATEWAYS[0].store

    def event(self, name: str, **names: str) -> dict[str, Any]:
        """An event of the caller; `names` are further placeholders of `events/`, with `_` for hyphens."""
        own = {"sk-your-master-key": MASTER_KEY, "sk-your-virtual-key": self.key, "file-YourFile": self.file_id}
        return event(name, {**names, **own})

    def sql(self, query: LiteralString, *parameters: object) -> None:
        """Change a row directly."""
        self.connection.execute(query, parameters)


@contextmanager
def fixture(*, tuned: bool = False, delay: float | None = None) -> Iterator[Fixture]:
    """Set everything up, and take it down at the end.

    `tuned`: with prepared statements. `delay`: seconds that each round trip to Postgres takes more; `None`: there is no
    proxy that could take some.
    """
    with ExitStack() as stack:
        url = stack.enter_context(postgres.database(stack.enter_context(postgres.server())))
        port = stack.enter_context(provider())
        queue = InMemoryQueue()
        variables = {
            "DATABASE_URL": url if delay is None else stack.enter_context(delayed(url, delay)),
            "MANIFOLD_MASTER_KEY": MASTER_KEY,
            "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
            "MANIFOLD_PREPARED_STATEMENTS": str(tuned).lower(),
        }
        _compose(Environment(variables | defaults(port)), queue)
        with psycopg.connect(url, autocommit=True) as connection:
            try:
                _stall(port)
                yield _populate(Fixture(connection), queue)
            finally:
                run(_close())


@contextmanager
def provider() -> Iterator[int]:
    """The port of a simulated provider in a process of its own, so that it uses no time of this interpreter."""
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
        service = Service("provider", Path(directory))
        command = [sys.executable, "-m", "local.provider", "--port", str(port), "--speed", "1000"]
        service.start(command, {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}, ROOT)
        try:
            service.await_answer(f"http://127.0.0.1:{port}/control/health", 20)
            yield port
        finally:
            service.stop()


def _stall(port: int) -> None:
    """Keep the provider's batches running."""
    for account in DEFAULT_ACCOUNTS:
        body = {"account": account.name, "state": "in_progress"}
        httpx.post(f"http://127.0.0.1:{port}/control/stall", json=body).raise_for_status()


def _compose(environment: Environment, queue: Queue) -> None:
    storage = InMemoryStorage()
    for gateway in _GATEWAYS:
        gateway.environment, gateway.queue, gateway.storage = environment, queue, storage
        gateway.transfer_storage = storage
    run(_migrate())


async def _migrate() -> None:
    async with _GATEWAYS[0].store.session() as tables:
        await migrations.apply(tables.connection)


async def _close() -> None:
    for gateway in _GATEWAYS:
        await gateway.store.close()
    await close_providers()


def _populate(made: Fixture, queue: InMemoryQueue) -> Fixture:
    """Make what the caller owns through the handlers, and write the history into the database."""
    made.key = _answer(admin.handler, made.event("key.generate"))["key"]
    made.sql("UPDATE api_keys SET alias = NULL")  # the event's, which no other key may have meanwhile
    made.limited_key = _answer(admin.handler, made.event("key.generate"))["key"]
    made.sql("UPDATE api_keys SET models = models || '{gpt-3.5-turbo}'")
    made.sql("UPDATE api_keys SET rpm_limit = 1000000 WHERE token_hash = %s", key_hash(made.limited_key))
    made.file_id = _answer(files.handler, made.event("files.create"))["id"]
    made.inputs = queue.take("input")
    for input_id in made.inputs:
        transfers.handler(made.event("transfers.input", input_YourInput=input_id), CONTEXT)
    made.running = [_answer(batches.handler, made.event("batches.create"))["id"] for _ in range(RUNNING)]
    for batch_id in queue.take("batch"):
        control.handler(made.event("control.batch", batch_YourBatch=batch_id), CONTEXT)
    _write_history(made)
    made.ended = "batch_past-ann-1"
    return made


def _answer(handler: Callable[[Any, Any], Any], request: Mapping[str, Any]) -> Any:
    answer = handler(request, CONTEXT)
    if answer["statusCode"] != 200:
        raise RuntimeError(f"{request['httpMethod']} {request['path']}: {answer}")
    return json.loads(answer["body"])


def _write_history(made: Fixture) -> None:
    """Write ended batches of the caller's user and of others, so that tables have a realistic size."""
    made.sql("INSERT INTO users (id) SELECT 'user-' || n FROM generate_series(2, %s) n", OWNERS)
    made.sql(
        """INSERT INTO files (id, purpose, filename, bytes, status, groups, user_id, created_at)
           SELECT 'file-past-' || u.id || '-' || n, 'batch', 'request.jsonl', 500, 'processed', '{gpt-4o-batch}', u.id,
               now() - n * interval '1 hour'
           FROM users u, generate_series(1, %s) n""",
        PAST,
    )
    made.sql(
        """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, total, completed,
               user_id, created_at, in_progress_at, expires_at, finalizing_at, completed_at, due_at)
           SELECT 'batch_past-' || u.id || '-' || n, 'file-past-' || u.id || '-' || n, '/v1/chat/completions', '24h',
               '{gpt-4o-batch}', 'completed', 2, 2, u.id, t, t, t + interval '1 day', t, t, NULL
           FROM users u, generate_series(1, %s) n, LATERAL (SELECT now() - n * interval '1 hour' AS t) at""",
        PAST,
    )
    made.sql("ANALYZE")
