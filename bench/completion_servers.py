"""The servers of `bench.completions` and `bench.streams`: provider, baselines, Manifold and LiteLLM on processors."""

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import yaml

from bench import CODE, PATHS, ROOT
from local.front import STAGE
from local.places import tool
from local.processes import Service, free_port
from manifold.auth import key_hash
from manifold.store import Store, migrations
from manifold.store.keys import Key
from tests.support import postgres

MASTER_KEY = "sk-master-of-the-bench"
CLIENT_KEY = "sk-client-of-the-bench"
MODELS = ("m1", "m2", "m3", "m4")
START_SECONDS = 90.0
FUNCTION_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers `POST {url}/chat/completions`."""

    name: str
    url: str
    key: str
    process: psutil.Process

    def processor(self) -> float:
        """Seconds of the processor that it has used so far."""
        return _used(self.process)


class RuntimeServer(Server):
    """Manifold's function in its own runtime, behind the front that is API Gateway on one machine."""

    def processor(self) -> float:
        """That of the function's environments, without the front."""
        return sum(map(_used, self.process.children()))


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


BASELINE = "baseline, aiohttp"
BASELINES = (BASELINE, "baseline, httpx")
TUNED = "manifold, tuned"
RUNTIME = "manifold, its runtime"
MODULE_OF_PROVIDER = "bench.instant_provider"


@contextmanager
def start_servers(provider_module: str = MODULE_OF_PROVIDER, *, with_runtime: bool = False) -> Iterator[list[Server]]:
    """Start the provider and every server in front of it, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as home, ExitStack() as stack:
        directory = Path(home)
        processors = os.sched_getaffinity(0)
        own = {min(processors)}
        os.sched_setaffinity(0, processors - own or processors)  # what starts from here on inherits it
        provider, answering = start_server(stack, directory, "provider", ("-m", provider_module), {})
        (directory / "config.yaml").write_text(config(provider))
        database_url = stack.enter_context(database())
        servers = [Server("direct", provider, "bench", answering)]
        os.sched_setaffinity(0, own)
        for name in BASELINES:
            app = f"bench.baseline:{name.rpartition(' ')[2]}"
            url, process = start_server(stack, directory, name, _uvicorn(app), {"PROVIDER_URL": provider})
            servers.append(Server(name, url, "bench", process))
        variables = {
            "DATABASE_URL": database_url,
            "MANIFOLD_CONFIG": str(directory / "config.yaml"),
            "MANIFOLD_MASTER_KEY": MASTER_KEY,
            "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        }
        for name in ("manifold", TUNED):
            if name == TUNED:
                variables |= {"MANIFOLD_PREPARED_STATEMENTS": "true"}
            url, process = start_server(stack, directory, name, _uvicorn("completions.app:app"), variables)
            servers.append(Server(name, url, CLIENT_KEY, process))
        if with_runtime:
            servers.append(_runtime(stack, directory, variables))
        servers += _litellm(stack, directory)
        os.sched_setaffinity(0, processors - own or processors)
        yield servers


def absent(servers: Sequence[Server]) -> str:
    """A sentence, if LiteLLM is not among them."""
    present = "litellm" in {server.name for server in servers}
    return "" if present else "\nLiteLLM is not installed: `make bench` installs it."


def _litellm(stack: ExitStack, directory: Path) -> list[Server]:
    command = tool("litellm", "litellm")
    if not command.exists():
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
    options = ("--config", str(directory / "config.yaml"), "--host", "127.0.0.1", "--port", str(port))
    process = service.start([command, *options, "--telemetry", "False"], environment, ROOT)
    stack.callback(service.stop)
    service.await_answer(f"http://127.0.0.1:{port}/health/liveliness", START_SECONDS)
    return [Server("litellm", f"http://127.0.0.1:{port}", MASTER_KEY, process)]


def _runtime(stack: ExitStack, directory: Path, variables: Mapping[str, str]) -> Server:
    """The function as AWS runs it: each environment, a process, has one request at a time."""
    environment = {
        **_environment({**variables, "MANIFOLD_COMPLETIONS_TIMEOUT": str(FUNCTION_SECONDS)}),
        "_HANDLER": "completions.app.handler",
        "LAMBDA_TASK_ROOT": str(CODE / "functions"),
    }
    routes = [("POST", "/chat/completions")]
    function = {"arn": "arn:bench", "seconds": FUNCTION_SECONDS, "environment": environment, "routes": routes}
    (directory / "functions.json").write_text(json.dumps([function]))
    nowhere = ("--emulator", "http://127.0.0.1:9", "--functions", str(directory / "functions.json"))
    arguments = ("-m", "local.front", "--interpreter", sys.executable, *nowhere)
    url, process = start_server(stack, directory, RUNTIME, arguments, {})
    return RuntimeServer(RUNTIME, url + STAGE, CLIENT_KEY, process)


def start_server(
    stack: ExitStack,
    directory: Path,
    name: str,
    arguments: Sequence[str],
    variables: Mapping[str, str],
) -> tuple[str, psutil.Process]:
    """Start a server on a free port. Returns its URL and its process."""
    port = free_port("127.0.0.1")
    service = Service(name, directory)
    command = [sys.executable, *arguments, "--port", str(port)]
    process = service.start(command, _environment(variables), ROOT)
    stack.callback(service.stop)
    _await_port(port)
    return f"http://127.0.0.1:{port}", process


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, PATHS)), "PATH": os.environ["PATH"], **variables}


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


def config(provider: str, **settings: float) -> str:
    """A `config.yaml` that both gateways read. Both know the price of the model."""
    params = {"model": "openai/gpt-4o-mini", "api_base": provider, "api_key": "bench"}
    models = [{"model_name": name, "litellm_params": params, "model_info": {"id": name}} for name in MODELS]
    return yaml.safe_dump({"model_list": models, "general_settings": {"master_key": MASTER_KEY, **settings}})


@contextmanager
def database() -> Iterator[str]:
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
