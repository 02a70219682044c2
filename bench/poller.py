"""Time one run of the poller with many open jobs, with and without a deployment that hangs.

Postgres is real, the provider is another process that answers each call after a pause, and SQS is an object that takes
as long as SQS does. Every job is due. `python -m bench.poller --help` says what can be changed.
"""

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import psycopg
import yaml

from batches import poller
from bench import PATHS, ROOT
from bench.events import CONTEXT, event
from bench.in_memory import InMemoryStorage
from bench.measure import machine, table
from bench.slow_provider import HUNG
from local.processes import Service, free_port
from manifold import observe
from manifold.config import Environment
from manifold.invocation import run
from manifold.providers.registry import close_providers
from manifold.queue import Message, Queue
from manifold.store import migrations
from tests.support import postgres

JOBS = (100, 1_000, 10_000)
DEPLOYMENTS = 50
"""Among which the jobs are divided equally; the hung one has 2 % of them."""
MILLISECONDS = 150.0
"""Of each call of the provider."""
TIMEOUT = 20.0
"""Seconds after which a call of the hung deployment is given up: the default."""
SQS_SECONDS = 0.015
GOAL = 45.0


class SlowQueue(Queue):
    """Counts messages, and takes as long as SQS for each call."""

    def __init__(self) -> None:
        self.sent = 0

    async def send(self, messages: Sequence[Message], *, delay: float = 0) -> list[Message]:
        await asyncio.sleep(SQS_SECONDS)
        self.sent += len(messages)
        return []


@dataclass(frozen=True, slots=True)
class Case:
    """So many open jobs, divided among so many deployments, of which one may hang."""

    jobs: int
    deployments: int
    hung: bool

    @property
    def name(self) -> str:
        return f"{self.jobs:,} at {self.deployments}{', one of them hung' if self.hung else ''}"

    @property
    def healthy(self) -> int:
        """The jobs that can be asked about."""
        return self.jobs - (self.jobs // self.deployments if self.hung else 0)


def measure(case: Case, milliseconds: float, timeout: float, server: str) -> tuple[str, ...]:
    """One run of the poller: its row of the table. Raises `RuntimeError` if it claimed another number of jobs."""
    with provider(case.jobs // case.deployments, milliseconds) as port, postgres.database(server) as url:
        queue = SlowQueue()
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            yaml.safe_dump({"model_list": _models(case, port, timeout)}, config)
            config.flush()
            _compose(url, config.name, queue)
            with psycopg.connect(url, autocommit=True) as connection:
                _populate(connection, case)
                began, computed = time.perf_counter(), time.process_time()
                result = poller.handler(event("schedule"), CONTEXT)
                seconds, processor = time.perf_counter() - began, time.process_time() - computed
                row = connection.execute("SELECT count(*) FROM batches WHERE completed = 1").fetchone()
            run(_close())
    if result["polled"] != case.jobs:
        raise RuntimeError(f"{case.name}: {result}")
    asked = f"{row[0] if row else 0:,} of {case.healthy:,}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return case.name, f"{seconds:.1f}", asked, f"{queue.sent:,}", f"{processor:.1f}", f"{memory:.0f}"


@contextmanager
def provider(jobs: int, milliseconds: float) -> Iterator[int]:
    """The port of a `bench.slow_provider` with so many jobs at each account."""
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
        service = Service("provider", Path(directory))
        command = [sys.executable, "-m", "bench.slow_provider", "--port", str(port)]
        command += ["--jobs", str(jobs), "--milliseconds", str(milliseconds)]
        service.start(command, {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}, ROOT)
        try:
            service.await_answer(f"http://127.0.0.1:{port}/health/batches/batch_0", 20)
            yield port
        finally:
            service.stop()


def _models(case: Case, port: int, timeout: float) -> list[object]:
    """The deployments of `config.yaml`, each an account of the provider."""
    accounts = [f"account{number}" for number in range(case.deployments)]
    if case.hung:
        accounts[0] = HUNG
    return [
        {
            "model_name": "group",
            "litellm_params": {
                "model": "openai/model",
                "api_base": f"http://127.0.0.1:{port}/{account}",
                "api_key": "os.environ/PROVIDER_KEY",
                "timeout": timeout,
            },
            "model_info": {"id": f"deployment{number}", "mode": "batch"},
        }
        for number, account in enumerate(accounts)
    ]


def _compose(url: str, config: str, queue: Queue) -> None:
    gateway = poller.gateway
    for part in ("config", "secrets", "store", "deployments"):
        gateway.__dict__.pop(part, None)  # of the case before
    poller.engine.cache_clear()
    poller.idleness.cache_clear()
    gateway.storage = InMemoryStorage()
    keys = {"MANIFOLD_MASTER_KEY": "sk-master-of-the-bench", "PROVIDER_KEY": "sk-of-the-bench"}
    variables = {"DATABASE_URL": url, "MANIFOLD_CONFIG": config, **keys}
    gateway.environment, gateway.queue = Environment(variables), queue
    run(_migrate())


async def _migrate() -> None:
    async with poller.gateway.store.session() as tables:
        await migrations.apply(tables.connection)


async def _close() -> None:
    await poller.gateway.store.close()
    await close_providers()


def _populate(connection: psycopg.Connection, case: Case) -> None:
    """Running jobs, all due; of each nine, six are young enough to be woken by a message next time."""
    connection.execute(
        """INSERT INTO files (id, purpose, filename, bytes, status, groups)
           VALUES ('file-1', 'batch', 'in.jsonl', 500, 'processed', '{group}')"""
    )
    connection.execute(
        """INSERT INTO inputs (id, file_id, deployment_id, state, provider_ref, due_at)
           SELECT 'input_' || n, 'file-1', 'deployment' || n, 'ready', 'file-there', NULL
           FROM generate_series(0, %s) n""",
        (case.deployments - 1,),
    )
    connection.execute(
        """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, total, metadata,
               in_progress_at, expires_at, due_at)
           SELECT 'batch_' || n, 'file-1', '/v1/chat/completions', '24h', '{group}', 'in_progress', 2,
               '{"project": "bench", "note": "a text as clients write it"}', now(), now() + interval '1 day',
               now() + interval '2 days'
           FROM generate_series(0, %s) n""",
        (case.jobs - 1,),
    )
    connection.execute(
        """INSERT INTO shards (id, batch_id, number, requests, bytes, state, due_at)
           SELECT 'shard_' || n, 'batch_' || n, 0, 2, 500, 'running', now() - n * interval '1 millisecond'
           FROM generate_series(0, %s) n""",
        (case.jobs - 1,),
    )
    connection.execute(
        """INSERT INTO jobs (id, batch_id, shard_id, input_id, deployment_id, state, provider_ref, polls, requests,
               submitted_at)
           SELECT 'job_' || n, 'batch_' || n, 'shard_' || n, 'input_' || n %% %(deployments)s,
               'deployment' || n %% %(deployments)s, 'running', 'batch_' || n / %(deployments)s, n %% 9, 2, now()
           FROM generate_series(0, %(last)s) n""",
        {"deployments": case.deployments, "last": case.jobs - 1},
    )
    connection.execute("ANALYZE")


def cases(jobs: Sequence[int], deployments: int) -> Iterator[Case]:
    """Each number of jobs, without and with a hung deployment; the most also at a single deployment."""
    for number in jobs:
        yield Case(number, deployments, hung=False)
        yield Case(number, deployments, hung=True)
    yield Case(max(jobs), 1, hung=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.poller", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=JOBS, help="multiples of the number of deployments")
    parser.add_argument("--deployments", type=int, default=DEPLOYMENTS)
    parser.add_argument("--milliseconds", type=float, default=MILLISECONDS, help="of each call of the provider")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds of a call of the hung deployment")
    args = parser.parse_args()
    print(f"One run of the poller, every job due, {args.milliseconds:.0f} ms a call of the provider.")
    print(f"Goal: every healthy job in one run of less than {GOAL:.0f} s, also with 10,000 jobs and a hung deployment.")
    print(f"{machine()}.\n", flush=True)
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "bench")  # metrics need one
    observe.logger.setLevel("CRITICAL")
    rows = []
    with postgres.server() as server, open(os.devnull, "w") as nowhere:
        for case in cases(args.jobs, args.deployments):
            print(f"polling {case.name} …", file=sys.stderr, flush=True)
            with redirect_stdout(nowhere):
                rows.append(measure(case, args.milliseconds, args.timeout, server))
    print(table(("open jobs", "s", "asked of healthy", "messages", "processor s", "MiB at most"), rows))


if __name__ == "__main__":
    main()
