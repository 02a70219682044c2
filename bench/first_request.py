"""The start of the completions function in a fresh process, and its first request, compared with its second.

    python -m bench.first_request [--rounds N] [--baseline CHECKOUT]

A process of the function's own runtime asks a Runtime API for invocations. What is measured is how long it takes until
then, and its first two requests. The provider, Secrets Manager and Postgres are on this machine, and answer at once.
Then the pieces are measured one after the other, in another fresh process each round.
With a baseline, the start of another checkout's code is measured in turn.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench import ROOT
from bench.completion_servers import CLIENT_KEY, MASTER_KEY, config, database, start_server
from bench.events import event
from bench.measure import machine, milliseconds, table
from local.runtime_api import Invocation, RuntimeApi
from tests.support.secrets_manager import secrets_manager

START_SECONDS = 60.0
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
ARN = "arn:aws:lambda:us-east-1:123456789012:function:completions"
PIECES = """
import sys
sys.modules["pydantic.v1"] = None
import json, time
times = {}
def piece(name, work):
    began = time.perf_counter(), time.process_time()
    result = work()
    times[name] = time.perf_counter() - began[0], time.process_time() - began[1]
    return result
def module(name):
    return __import__(name, fromlist=["app"])
app = piece("importing completions.app", lambda: module("completions.app"))
piece("importing the runtime", lambda: module("manifold.runtime.loop"))
from manifold.gateway import Gateway
from manifold import secrets
gateway = Gateway()
client = piece("botocore and its client", secrets.secrets_manager)
gateway.secrets._client_factory = lambda: client
piece("the secret", lambda: gateway.secrets.get("DATABASE_URL"))
piece("config.yaml", lambda: gateway.config)
from manifold.providers import registry
piece("aiohttp", lambda: module("aiohttp"))
adapters = sorted({one.provider for one in gateway.config.deployments})
piece("the adapter", lambda: [registry.completion_provider_for(one) for one in adapters])
piece("the price tables", lambda: (gateway.prices.read(), gateway.prices._reading.join()))
import asyncio
async def connect():
    async with gateway.store.session() as tables:
        await tables.connection.execute("SELECT 1")
async def close():
    await gateway.store.close()
with asyncio.Runner() as runner:
    runner.get_loop()
    piece("connecting to Postgres", lambda: runner.run(connect()))
    runner.run(close())
print(json.dumps(times))
"""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds by the clock, and of the process's processor."""

    clock: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.first_request", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--baseline", type=Path, help="another checkout")
    args = parser.parse_args()
    codes = {"": ROOT} | ({"baseline: ": args.baseline.resolve()} if args.baseline else {})
    starts: dict[str, list[Times]] = {}
    pieces: dict[str, list[Times]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="manifold-bench-")))
        provider, _ = start_server(stack, directory, "provider", ("-m", "bench.instant_provider"), {})
        (directory / "config.yaml").write_text(config(provider))
        secret = {"DATABASE_URL": stack.enter_context(database()), "MANIFOLD_MASTER_KEY": MASTER_KEY}
        server = stack.enter_context(secrets_manager(secret))
        environments = {code: _environment(path, directory) | server.environment for code, path in codes.items()}
        for number in range(args.rounds + 1):
            for code, environment in environments.items():
                started = asyncio.run(_start(environment))
                if number:  # the first round writes the byte code
                    _add(starts, code, started)
            restored, piecemeal = asyncio.run(_restored(environments[""])), _pieces(environments[""])
            if number:
                _add(starts, "", restored)
                _add(pieces, "", piecemeal)
    print(f"The start of the completions function, {machine()}; medians of {args.rounds} fresh processes.\n")
    print(_table("", starts))
    print()
    print(_table("its pieces, one after the other", pieces))


def _add(times: dict[str, list[Times]], code: str, measured: Mapping[str, Times]) -> None:
    for name, one in measured.items():
        times.setdefault(code + name, []).append(one)


def _table(title: str, times: Mapping[str, Sequence[Times]]) -> str:
    return table((title, "ms", "CPU ms"), [_row(name, measured) for name, measured in times.items()])


def _row(name: str, times: Sequence[Times]) -> Sequence[str]:
    return (
        name,
        milliseconds(median(one.clock for one in times)),
        milliseconds(median(one.processor for one in times)),
    )


def _environment(code: Path, directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(code / "layers" / "common"), str(code / "functions"))),
        "LAMBDA_TASK_ROOT": str(directory),
        "MANIFOLD_COMPLETIONS_TIMEOUT": "300",
        "POWERTOOLS_LOG_LEVEL": "ERROR",
        "AWS_LAMBDA_FUNCTION_NAME": "completions",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "_HANDLER": "completions.app.handler",
    }


async def _start(environment: Mapping[str, str]) -> dict[str, Times]:
    """The start of one process, its first request and its second."""
    began = time.perf_counter()
    async with _function(environment) as (api, process):
        await api.asked.wait()
        measured = {"until it asks for an invocation": Times(time.perf_counter() - began, _processor(process))}
        return measured | await _requests(api, process)


async def _restored(environment: Mapping[str, str]) -> dict[str, Times]:
    """The same process from its snapshot on: as it is after a restore, without what Lambda does for it."""
    async with _function({**environment, **SNAP_START}) as (api, process):
        await api.snapshot.wait()
        began, used = time.perf_counter(), _processor(process)
        api.restore()
        await api.asked.wait()
        measured = {"until it asks": Times(time.perf_counter() - began, _processor(process) - used)}
        measured |= await _requests(api, process)
    return {f"from a snapshot: {name}": one for name, one in measured.items()}


@asynccontextmanager
async def _function(environment: Mapping[str, str]) -> AsyncIterator[tuple[RuntimeApi, psutil.Process]]:
    """A process of the function, and the Runtime API that it asks."""
    api = RuntimeApi(ARN, START_SECONDS)
    await api.start()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", "import sys; sys.modules['pydantic.v1'] = None; import runpy; "
        "runpy.run_module('manifold.runtime', run_name='__main__')",
        env={**environment, "AWS_LAMBDA_RUNTIME_API": api.address},
        cwd=ROOT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_SECONDS):
            yield api, psutil.Process(child.pid)
    finally:
        child.kill()
        await child.wait()
        await api.stop()


async def _requests(api: RuntimeApi, process: psutil.Process) -> dict[str, Times]:
    """The first request and the second."""
    measured: dict[str, Times] = {}
    for name in ("the first request", "the second"):
        began, used = time.perf_counter(), _processor(process)
        await _answered(api.invoke(_event()))
        measured[name] = Times(time.perf_counter() - began, _processor(process) - used)
    return measured


def _processor(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _answered(invocation: Invocation) -> None:
    """Take the whole answer. Raises `RuntimeError` if it is no success."""
    head, content = await invocation.head()
    content += b"".join([piece async for piece in invocation.body()])
    if head["statusCode"] != 200:
        raise RuntimeError(f"{head}: {content.decode()}")


def _event() -> dict[str, Any]:
    made = event("chat.completions.create", {"sk-your-virtual-key": CLIENT_KEY})
    body = {"model": "m1", "messages": [{"role": "user", "content": "Say hello, please."}]}
    made["requestContext"]["requestTimeEpoch"] = int(time.time() * 1000)
    return made | {"body": json.dumps(body), "isBase64Encoded": False}


def _pieces(environment: Mapping[str, str]) -> dict[str, Times]:
    command = [sys.executable, "-P", "-c", PIECES]
    done = subprocess.run(command, cwd=ROOT, env=dict(environment), check=True, stdout=subprocess.PIPE)
    return {name: Times(*both) for name, both in json.loads(done.stdout).items()}


if __name__ == "__main__":
    main()
