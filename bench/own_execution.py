"""A batch that the gateway itself runs: its time against the ideal, and its work against a bare script's.

Each worker is a process with a real Postgres, S3 and SQS in memory, and a server that answers after a pause.

python -m bench.own_execution --requests 50000 --milliseconds 200
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import yaml
from psycopg.types.json import Jsonb

from bench import PATHS, ROOT
from bench.in_memory import InMemoryQueue
from bench.measure import machine, milliseconds, p99, table
from bench.own_execution_worker import CALLS, FILE_ID, GROUP, lines
from local.processes import Service, free_port
from manifold.config import Environment
from manifold.execution.batches import GatewayBatches
from manifold.execution.pace import Claim, PaceLimits, admit
from manifold.gateway import Gateway
from manifold.jsonl.check import Check
from manifold.providers import Endpoint, Job
from manifold.store import Store, migrations
from tests.support import postgres

CHAT = "/v1/chat/completions"
CLAIMING = 32
"""Workers in the measurement of claims."""
CLAIM_PAUSE = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--milliseconds", type=float, default=200)
    parser.add_argument("--claims", type=int, default=5, help="how often each of 32 workers claims")
    arguments = parser.parse_args()
    requests, pause = arguments.requests, arguments.milliseconds / 1000
    print(f"{machine()}; {requests:,} requests, answered after {arguments.milliseconds:g} ms\n")
    with postgres.server() as server:
        with answering(arguments.milliseconds) as base_url:
            bare = _process(["--requests", str(requests), "--bare", base_url], {})
            rows = [("a bare script", *_row(bare, requests, requests * pause / CALLS, bare))]
            for workers, count in ((1, requests // 4), (1, requests), (2, requests)):
                measured = run(server, base_url, count, workers)
                ideal = count * pause / (CALLS * workers)
                rows.append(
                    (f"{workers} x {CALLS} calls, {count:,} requests", *_row(measured, count, ideal, bare, requests))
                )
        with answering(10 * arguments.milliseconds) as base_url:
            slow = min(requests, 10 * CALLS)
            measured = run(server, base_url, slow, 1)
            ideal = slow * 10 * pause / CALLS
            rows.append(
                (
                    f"answered after {10 * arguments.milliseconds:g} ms, {slow:,}",
                    *_row(measured, slow, ideal, bare, requests),
                )
            )
        header = [
            "",
            "s",
            "of ideal",
            "requests/s",
            "ms of processor",
            "of the script",
            "MiB more",
            "statements",
            "writes",
        ]
        print(table(header, rows))
        print("\nstatements and writes to S3: for 1,000 requests\n")
        taken = asyncio.run(_claims(server, arguments.claims))
        each = f"{milliseconds(median(taken))} ms each (median), {milliseconds(p99(taken))} ms (p99)"
        print(f"{CLAIMING} workers of one deployment, {CLAIMING / CLAIM_PAUSE:g} claims in a second: {each}")


def run(server: str, base_url: str, requests: int, workers: int) -> dict[str, float]:
    """So many worker processes on one batch: the sums of what they print, and the greatest time and memory."""
    with postgres.database(server) as url, tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
        config = Path(directory) / "config.yaml"
        config.write_text(yaml.safe_dump(_config(base_url, workers)))
        variables = _variables(url, config)
        asyncio.run(_submit(url, variables, requests))
        with ThreadPoolExecutor(workers) as pool:
            started = [pool.submit(_process, ["--requests", str(requests)], variables) for _ in range(workers)]
            printed = [one.result() for one in started]
        with psycopg.connect(url) as connection:
            row = connection.execute(
                "SELECT sum(completed), count(*) FILTER (WHERE state = 'open') FROM chunks"
            ).fetchone()
    if row != (requests, 0):
        raise RuntimeError(f"not all requests are answered: {row}")
    most = {name: max(one[name] for one in printed) for name in ("seconds", "memory")}
    return most | {name: sum(one[name] for one in printed) for name in ("processor", "statements", "writes")}


@contextmanager
def answering(pause: float) -> Iterator[str]:
    """The base URL of a `bench.answering_server` with so many milliseconds."""
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
        service = Service("server", Path(directory))
        command = [sys.executable, "-m", "bench.answering_server", "--port", str(port), "--milliseconds", str(pause)]
        service.start(command, {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}, ROOT)
        try:
            service.await_port("127.0.0.1", port, 20)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            service.stop()


def _process(arguments: Sequence[str], variables: Mapping[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.own_execution_worker", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    printed: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return printed


def _row(
    measured: Mapping[str, float], requests: int, ideal: float, bare: Mapping[str, float], of_bare: int | None = None
) -> tuple[str, ...]:
    each, floor = measured["processor"] / requests, bare["processor"] / (of_bare or requests)
    counts = [
        f"{1000 * measured[name] / requests:.1f}" if name in measured else "" for name in ("statements", "writes")
    ]
    return (
        f"{measured['seconds']:.1f}",
        f"{measured['seconds'] / ideal:.2f}",
        f"{requests / measured['seconds']:.0f}",
        milliseconds(each),
        f"{each / floor:.2f}",
        f"{measured['memory']:.0f}",
        *counts,
    )


def _config(base_url: str, workers: int) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": f"hosted_vllm/{GROUP}",
        "api_base": base_url,
        "api_key": "os.environ/PROVIDER_KEY",
    }
    params["max_parallel_requests"] = CALLS * workers
    return {
        "model_list": [{"model_name": GROUP, "litellm_params": params, "model_info": {"id": "own", "mode": "batch"}}]
    }


def _variables(url: str, config: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "PROVIDER_KEY": "key",
        "MANIFOLD_MASTER_KEY": "sk-master-of-the-bench",
        "MANIFOLD_CONFIG": str(config),
        "AWS_DEFAULT_REGION": "us-east-1",
    }


async def _submit(url: str, variables: Mapping[str, str], requests: int) -> None:
    """Make the tables, and a batch whose job is submitted."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrations.apply(connection)
        check = Check()
        check.feed(lines(requests))
        report = check.finish()
        await connection.execute(
            """INSERT INTO files (id, purpose, filename, bytes, status, report)
               VALUES (%s, 'batch', '', %s, 'processed', %s)""",
            (FILE_ID, report.bytes, Jsonb(report.to_json())),
        )
        await connection.execute(
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, total, expires_at)
               VALUES ('batch_a', %s, %s, '24h', %s, 'in_progress', %s, now() + interval '1 day')""",
            (FILE_ID, CHAT, [GROUP], requests),
        )
        await connection.execute(
            "INSERT INTO shards (id, batch_id, number, requests, bytes) VALUES ('shard_a', 'batch_a', 0, %s, 0)",
            (requests,),
        )
        await connection.execute(
            """INSERT INTO jobs (id, batch_id, shard_id, deployment_id, execution, requests)
               VALUES ('job_a', 'batch_a', 'shard_a', 'own', 'gateway', %s)""",
            (requests,),
        )
    gateway = Gateway(Environment({**os.environ, **variables}))
    queue = InMemoryQueue()
    own = GatewayBatches(gateway.store, lambda: queue, lambda: gateway.storage, gateway.config)
    await own.submit(Endpoint("model", "", ""), Job("job_a", None, CHAT, "24h", 0))
    await gateway.store.close()


async def _claims(server: str, rounds: int) -> list[float]:
    """The seconds of each claim, of many workers of one deployment that claim at intervals."""
    with postgres.database(server) as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await migrations.apply(connection)
        taken, limits = list[float](), PaceLimits(parallel=CALLS * CLAIMING, rpm=1_000_000)

        async def work(number: int) -> None:
            store = Store(lambda: url)
            await asyncio.sleep(CLAIM_PAUSE * number / CLAIMING)
            async with store.session():
                pass  # the first unit of work connects
            for _ in range(rounds):
                began = time.perf_counter()
                async with store.transaction() as tables:
                    claim = Claim(f"chunk_{number}", CALLS, 1000, 0)
                    _, pace = admit(await tables.paces.lock("own"), limits, claim)
                    await tables.paces.write("own", pace)
                taken.append(time.perf_counter() - began)
                await asyncio.sleep(CLAIM_PAUSE)
            await store.close()

        await asyncio.gather(*(work(number) for number in range(CLAIMING)))
    return taken


if __name__ == "__main__":
    main()
