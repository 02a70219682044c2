"""What a gateway adds to a completion, and how many it forwards: Manifold, two floors and LiteLLM's proxy in one run.

All stand before the same local provider, which answers at once. Each server is one process on one processor; the load,
the provider and Postgres have the other. Manifold's figures have its key lookup and its usage record in them, in a real
Postgres; *tuned* it has prepared statements, and remembers a key for 5 seconds. LiteLLM runs without a database, and so
does neither. The floors forward one call by FastAPI, one of them on aiohttp, which is Manifold's transport, and one on
httpx.

*CPU* is the processor time of the server's own process for each request at full load: a shared machine's clock tells of
its neighbours, too.
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
    """Something that answers `POST {url}/chat/completions`."""

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
    """A request, and the calls of the provider that it stands for."""

    name: str
    calls: int
    body: Mapping[str, Any]
    servers: frozenset[str]


@dataclass(slots=True)
class Result:
    seconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


FLOOR = "floor, aiohttp"
FLOORS = (FLOOR, "floor, httpx")
TUNED = "manifold, tuned"
EVERYWHERE = frozenset({"direct", *FLOORS, "manifold", TUNED, "litellm"})
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
    """In rounds, so that a slow moment of the machine strikes all alike."""
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
    """The seconds of each of `count` requests, `parallel` at a time. An answer that is no success ends the bench."""
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
    floor = results["one model", FLOOR]
    rows = []
    for (scenario, server), result in results.items():
        taken, rate, used = median(result.seconds), median(result.per_second), median(result.processor)
        compared = (
            f"{taken / median(floor.seconds):.2f}",
            f"{(taken - direct) / (median(floor.seconds) - direct):.2f}",
            f"{rate / median(floor.per_second):.2f}",
            f"{used / median(floor.processor):.2f}",
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
        "time ÷ floor",
        "added ÷",
        "rate ÷",
        "CPU ÷",
    )
    present = {server.name for server in servers}
    absent = "" if "litellm" in present else "\nLiteLLM is not installed: make bench does."
    return f"{table(header, rows)}\nThe floor of the last four columns is that on aiohttp.{absent}"


@contextmanager
def _servers() -> Iterator[list[Server]]:
    """The provider and everything in front of it, each on its processor."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as home, ExitStack() as stack:
        directory = Path(home)
        processors = os.sched_getaffinity(0)
        own = {min(processors)}
        os.sched_setaffinity(0, processors - own or processors)  # what starts from here on inherits it
        provider, answering = _start(stack, directory, "provider", ("-m", "bench.answering"), {})
        (directory / "config.yaml").write_text(_config(provider))
        (directory / "tuned.yaml").write_text(_config(provider, user_api_key_cache_ttl=5))
        database = stack.enter_context(_database())
        servers = [Server("direct", provider, "bench", answering)]
        os.sched_setaffinity(0, own)
        for name in FLOORS:
            app = f"bench.forwarder:{name.rpartition(' ')[2]}"
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
    """Start a server of ours on a free port: its URL, and its process."""
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
    """Read by both gateways: LiteLLM's keys. The model is one whose price both know."""
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
