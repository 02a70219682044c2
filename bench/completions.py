"""The time that a gateway adds to a completion, and its rate: Manifold, two baselines and LiteLLM's proxy in one run.

All call the same local provider, which answers at once. Each server is one process on one processor; the load, the
provider and Postgres have the other. Manifold's figures include its key lookup and its usage record in a real Postgres;
*tuned*, it has prepared statements and caches a key for 5 seconds. LiteLLM runs without a database, and does neither.
The baselines forward one call by FastAPI: one on aiohttp, which is Manifold's transport, and one on httpx.

*CPU* is the processor time of the server's process for each request at full load: on a shared machine the clock also
measures other programs.
"""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import psutil
import psycopg
import yaml

from bench import PATHS, ROOT
from bench.measure import machine, milliseconds, p99, table
from local.errors import StackError
from local.places import tool
from local.processes import Service, free_port
from manifold.auth import key_hash
from manifold.store import Store, migrations
from manifold.store.keys import Key
from tests.support import postgres

MASTER_KEY = "sk-master-of-the-bench"
CLIENT_KEY = "sk-client-of-the-bench"
MODELS = ("m1", "m2", "m3", "m4")
PROMPT = [{"role": "user", "content": "Say hello, please."}]
ROUNDS = 5
ALONE = 500
"""Requests one after the other, for the latency."""
PARALLEL = 32
LOADED = 4000
"""Requests `PARALLEL` at a time, for the throughput."""
START_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers `POST {url}/chat/completions`."""

    name: str
    url: str
    key: str
    process: psutil.Process

    def processor(self) -> float:
        """Seconds of the processor that it has used so far."""
        times = self.process.cpu_times()
        return times.user + times.system


@dataclass(frozen=True, slots=True)
class Scenario:
    """A request, the number of provider calls that it makes, and the servers that are measured with it."""

    name: str
    calls: int
    body: Mapping[str, Any]
    servers: frozenset[str]


@dataclass(slots=True)
class Result:
    seconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


BASELINE = "baseline, aiohttp"
BASELINES = (BASELINE, "baseline, httpx")
TUNED = "manifold, tuned"
EVERYWHERE = frozenset({"direct", *BASELINES, "manifold", TUNED, "litellm"})
GATEWAYS = frozenset({"manifold", "litellm"})
SCENARIOS = (
    Scenario("one model", 1, {"model": "m1", "messages": PROMPT}, EVERYWHERE),
    Scenario("four models, all", 4, {"model": ",".join(MODELS), "messages": PROMPT}, GATEWAYS),
    Scenario(
        "four models, fastest",
        4,
        {"model": ",".join(MODELS), "messages": PROMPT, "fastest_response": True},
        GATEWAYS,
    ),
    Scenario("100 prompts to one", 100, {"model": "m1", "messages": [PROMPT] * 100}, frozenset({"manifold"})),
)


def main() -> None:
    print(f"Completions, {machine()}.", flush=True)
    with ExitStack() as stack:
        servers = stack.enter_context(_servers())
        print(_report(asyncio.run(_measure(servers)), servers))


async def _measure(servers: Sequence[Server]) -> dict[tuple[str, str], Result]:
    """In rounds, so that a slow moment of the machine affects all servers alike."""
    results: dict[tuple[str, str], Result] = {}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2)) as session:
        for scenario in SCENARIOS:
            run = [server for server in servers if server.name in scenario.servers]
            for server in run:
                await _load(session, server, scenario, 20, 4)
            for _ in range(ROUNDS):
                for server in run:
                    result = results.setdefault((scenario.name, server.name), Result())
                    result.seconds += await _load(
                        session, server, scenario, ALONE // ROUNDS // min(scenario.calls, 10), 1
                    )
                    began, used = time.perf_counter(), server.processor()
                    count = LOADED // ROUNDS // min(scenario.calls, 50)
                    await _load(session, server, scenario, count, min(PARALLEL, count))
                    result.per_second.append(count / (time.perf_counter() - began))
                    result.processor.append((server.processor() - used) / count)
    return results


async def _load(
    session: aiohttp.ClientSession, server: Server, scenario: Scenario, count: int, parallel: int
) -> list[float]:
    """The seconds of each of `count` requests, `parallel` at a time. Raises `RuntimeError` if one fails."""
    left = iter(range(count))
    seconds: list[float] = []

    async def client() -> None:
        for _ in left:
            began = time.perf_counter()
            headers = {"authorization": f"Bearer {server.key}"}
            async with session.post(f"{server.url}/chat/completions", json=scenario.body, headers=headers) as answer:
                content = await answer.read()
            seconds.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"{server.name} answered {answer.status}: {content[:300]!r}")

    await asyncio.gather(*(client() for _ in range(parallel)))
    return seconds


def _report(results: Mapping[tuple[str, str], Result], servers: Sequence[Server]) -> str:
    direct = median(results["one model", "direct"].seconds)
    baseline = results["one model", BASELINE]
    rows = []
    for (scenario, server), result in results.items():
        taken, rate, used = median(result.seconds), median(result.per_second), median(result.processor)
        compared = (
            f"{taken / median(baseline.seconds):.2f}",
            f"{(taken - direct) / (median(baseline.seconds) - direct):.2f}",
            f"{rate / median(baseline.per_second):.2f}",
            f"{used / median(baseline.processor):.2f}",
        )
        rows.append(
            (
                f"{scenario}: {server}",
                *map(milliseconds, (taken, taken - direct, p99(result.seconds) - direct)),
                f"{rate:.0f}",
                milliseconds(used),
                *(compared if scenario == "one model" and server != "direct" else [""] * len(compared)),
            )
        )
    header = (
        "",
        "median ms",
        "added ms",
        "p99 added",
        "requests/s",
        "CPU ms",
        "time ÷ baseline",
        "added ÷",
        "rate ÷",
        "CPU ÷",
    )
    present = {server.name for server in servers}
    absent = "" if "litellm" in present else "\nLiteLLM is not installed: `make bench` installs it."
    return f"{table(header, rows)}\nThe last four columns compare with the baseline on aiohttp.{absent}"


@contextmanager
def _servers() -> Iterator[list[Server]]:
    """The provider and every server in front of it, each on its processor."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as home, ExitStack() as stack:
        directory = Path(home)
        processors = os.sched_getaffinity(0)
        own = {min(processors)}
        os.sched_setaffinity(0, processors - own or processors)  # what starts from here on inherits it
        provider, answering = _start(stack, directory, "provider", ("-m", "bench.instant_provider"), {})
        (directory / "config.yaml").write_text(_config(provider))
        (directory / "tuned.yaml").write_text(_config(provider, user_api_key_cache_ttl=5))
        database = stack.enter_context(_database())
        servers = [Server("direct", provider, "bench", answering)]
        os.sched_setaffinity(0, own)
        for name in BASELINES:
            app = f"bench.baseline:{name.rpartition(' ')[2]}"
            url, process = _start(stack, directory, name, _uvicorn(app), {"PROVIDER_URL": provider})
            servers.append(Server(name, url, "bench", process))
        variables = {
            "DATABASE_URL": database,
            "MANIFOLD_CONFIG": str(directory / "config.yaml"),
            "MANIFOLD_MASTER_KEY": MASTER_KEY,
            "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        }
        for name in ("manifold", TUNED):
            if name == TUNED:
                variables |= {"MANIFOLD_PREPARED_STATEMENTS": "true", "MANIFOLD_CONFIG": str(directory / "tuned.yaml")}
            url, process = _start(stack, directory, name, _uvicorn("completions.app:app"), variables)
            servers.append(Server(name, url, CLIENT_KEY, process))
        servers += _litellm(stack, directory)
        os.sched_setaffinity(0, processors - own or processors)
        yield servers


def _litellm(stack: ExitStack, directory: Path) -> list[Server]:
    try:
        command = tool("litellm", "litellm")
    except StackError:
        return []
    port = free_port("127.0.0.1")
    service = Service("litellm", directory)
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_LOG": "ERROR",
        "HOME": str(directory),
        "PATH": "/usr/bin:/bin",
    }
    config = ("--config", str(directory / "config.yaml"), "--host", "127.0.0.1", "--port", str(port))
    process = service.start([command, *config, "--telemetry", "False"], environment, ROOT)
    stack.callback(service.stop)
    service.await_answer(f"http://127.0.0.1:{port}/health/liveliness", START_SECONDS)
    return [Server("litellm", f"http://127.0.0.1:{port}", MASTER_KEY, process)]


def _start(
    stack: ExitStack,
    directory: Path,
    name: str,
    arguments: Sequence[str],
    variables: Mapping[str, str],
) -> tuple[str, psutil.Process]:
    """Start a server on a free port. Returns its URL and its process."""
    port = free_port("127.0.0.1")
    service = Service(name, directory)
    environment = {"PYTHONPATH": os.pathsep.join(map(str, PATHS)), "PATH": os.environ["PATH"], **variables}
    process = service.start([sys.executable, *arguments, "--port", str(port)], environment, ROOT)
    stack.callback(service.stop)
    _await_port(port)
    return f"http://127.0.0.1:{port}", process


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def _uvicorn(app: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", app, "--host", "127.0.0.1", "--log-level", "error", "--lifespan", "off")


def _config(provider: str, **settings: float) -> str:
    """A `config.yaml` that both gateways read. Both know the price of the model."""
    params = {"model": "openai/gpt-4o-mini", "api_base": provider, "api_key": "bench"}
    models = [{"model_name": name, "litellm_params": params, "model_info": {"id": name}} for name in MODELS]
    return yaml.safe_dump({"model_list": models, "general_settings": {"master_key": MASTER_KEY, **settings}})


@contextmanager
def _database() -> Iterator[str]:
    """A migrated database with the client's key in it."""
    with postgres.server() as server, postgres.database(server) as url:
        asyncio.run(_prepare(url))
        yield url


async def _prepare(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrations.apply(connection)
    store = Store(lambda: url)
    async with store.session() as tables:
        await tables.keys.insert(Key(id="key_bench", token_hash=key_hash(CLIENT_KEY), name="sk-…ench"))
    await store.close()


if __name__ == "__main__":
    main()
