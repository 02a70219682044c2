"""The whole stack, which `make up` starts and `make down` ends. Several may run at once, each in its directory."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from local import deployment, emulator, postgres, streamed, values
from local.emulator import Emulator
from local.errors import StackError
from local.lock import Lock
from local.places import DEFAULT_CONFIG, ROOT, tool
from local.postgres import Postgres
from local.processes import Service, free_port
from local.provider import defaults
from local.running import Running, generate_key, warm
from manifold.config import Config, SecretName

_PROVIDER_SECONDS = 30.0
_FRONT_SECONDS = 60.0
_SECRET = "manifold"
_TOOLS = ("uv", "sam", "ministack")


@dataclass(frozen=True, slots=True)
class _Plan:
    """The settings of a stack, which are known before it starts."""

    config: Config
    provider_port: int
    secret: dict[str, str]
    """The value of each name in the configuration."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts that start before the deploy."""

    template: Path
    aws: Emulator
    database_url: str
    provider_url: str


class Stack:
    """One stack: its files are below `directory`, and it listens on the address `host` only.

    One command works on it at a time: it is locked from `up` until it is ended or left, or the command ends. As a
    context it lives no longer than its command, and takes the place of what an earlier one could not end.

    `config` is the shipped one by default. `simulated` says whether the simulated provider's addresses and keys stand
    for what the configuration names (by default for the shipped one alone); `given` has the values of all other names
    (by default the shell's variables and those of `.env`), and a `DATABASE_URL` in it takes the place of the embedded
    Postgres. `allowed_origins`, separated by commas, are those whose pages browsers let call the API.
    """

    def __init__(
        self,
        directory: Path,
        config: Path | None = None,
        *,
        simulated: bool | None = None,
        given: Mapping[str, str] | None = None,
        allowed_origins: str = "",
        host: str = "127.0.0.1",
        say: Callable[[str], None] = print,
    ) -> None:
        self.directory = directory.resolve()
        self.logs = self.directory / "logs"
        self._config_file = (config or DEFAULT_CONFIG).resolve()
        self._simulated = config is None if simulated is None else simulated
        self._given = dict(values.given() if given is None else given)
        self._database_url = self._given.get("DATABASE_URL")
        self._allowed_origins = allowed_origins
        self._host = host
        self._say = say
        self._state = self.directory / "stack.json"
        self._lock = Lock(self.directory.with_name(f"{self.directory.name}.lock"))
        self._postgres = Postgres(self.directory / "postgres")
        self._emulator = Service("ministack", self.logs)
        self._aws: Emulator | None = None
        self._provider = Service("provider", self.logs)
        self._front = Service("front", self.logs)

    def __enter__(self) -> Running:
        self.down()
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the stack; after an error its logs are kept."""
        if error is None:
            self.down()
        else:
            self.abandon()

    def up(self) -> Running:
        """Start and deploy everything. If a part fails, the others are stopped, and the logs are kept."""
        self._lock.acquire()
        try:
            if self._state.exists() and self._emulator.is_running():
                raise StackError(f"A stack is up in {self.directory} already; end it first (make down).")
            _check_tools()
            plan = self._plan()
        except BaseException:
            self._lock.release()
            raise
        self._clear()
        self.logs.mkdir(parents=True)
        try:
            running = self._start(plan, _with_time(self._say))
        except BaseException:
            self.abandon()
            raise
        self._state.touch(mode=0o600)
        self._state.write_text(json.dumps(asdict(running), indent=2))
        return running

    def running(self) -> Running:
        """The addresses and keys of the running stack."""
        if not self._state.exists():
            raise StackError(f"No stack is up in {self.directory}.")
        return Running(**json.loads(self._state.read_text()))

    def leave(self) -> None:
        """Release the running stack, so that another command may use and stop it."""
        self._lock.release()

    def down(self) -> None:
        """Stop every part, and delete the stack's files."""
        self._lock.acquire()
        self._clear()
        self._lock.release()

    def abandon(self) -> None:
        """Stop every part, and keep the logs, with those of the functions, which only the emulator has."""
        if self._aws is not None and self._emulator.is_running():
            (self.logs / "functions.log").write_text(self._aws.logs())
        self._stop()
        self._lock.release()
        self._say(f"failed; the logs are in {self.logs}")

    def _clear(self) -> None:
        self._stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _stop(self) -> None:
        self._state.unlink(missing_ok=True)
        self._front.stop()
        self._emulator.stop()
        self._provider.stop()
        self._postgres.stop()

    def _plan(self) -> _Plan:
        port = free_port(self._host)
        given = {**self._given, **(defaults(port, self._host) if self._simulated else {})}
        config = values.load(self._config_file, given)
        for warning in config.warnings:
            self._say(f"warning: {warning}")
        if self._database_url:
            place = postgres.place(self._database_url)
            self._say(
                f"DATABASE_URL is set, so no Postgres is started. Tables and rows go into {place}, and stay there."
            )
        return _Plan(config, port, values.named(config, given))

    def _start(self, plan: _Plan, say: Callable[[str], None]) -> Running:
        embedded = "" if self._database_url else "Postgres, "
        say(f"starting {embedded}MiniStack and the simulated provider; building what changed")
        parts = self._start_parts(plan.provider_port)
        say("deploying (sam deploy)")
        outputs = self._deploy(parts, plan.secret)
        say("starting what streams")
        base_url = self._start_front(parts, outputs)
        say("making a virtual key, warming the functions")
        running = _open(plan, parts, outputs, base_url)
        say(f"up at {running.base_url}")
        return running

    def _start_parts(self, provider_port: int) -> _Parts:
        """Start all parts at the same time. If one fails, the others are awaited, so that they can be stopped."""
        with ThreadPoolExecutor() as pool:
            template = pool.submit(deployment.build, self.logs / "sam-build.log")
            aws = pool.submit(emulator.start, self._emulator, self.directory / "ministack", self._host)
            database_url = pool.submit(self._start_postgres)
            provider_url = pool.submit(self._start_provider, provider_port)
        self._aws = aws.result()
        return _Parts(template.result(), self._aws, database_url.result(), provider_url.result())

    def _start_postgres(self) -> str:
        return self._database_url or self._postgres.start(self._host)

    def _start_provider(self, port: int) -> str:
        url = f"http://{self._host}:{port}"
        scratch = self.directory / "provider"
        scratch.mkdir()
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(scratch)}
        command = [sys.executable, "-m", "local.provider", "--host", self._host, "--port", str(port)]
        self._provider.start(command, environment, ROOT)
        self._provider.await_answer(f"{url}/control/health", _PROVIDER_SECONDS)
        return url

    def _start_front(self, parts: _Parts, outputs: Mapping[str, str]) -> str:
        """Start the API of the stack; returns the base URL of OpenAI's SDKs."""
        functions = streamed.streamed(parts.template, parts.aws, deployment.STACK, self.directory / "functions")
        file = self.directory / "streamed.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps([asdict(one) for one in functions]))
        port = free_port(self._host)
        api = f"{parts.aws.url}/_aws/execute-api/{outputs['ApiId']}/v1"
        command = [sys.executable, "-m", "local.front", "--host", self._host, "--port", str(port), "--emulator", api]
        self._front.start([*command, "--functions", file], {"PYTHONPATH": os.pathsep.join(sys.path)}, ROOT)
        self._front.await_answer(f"http://{self._host}:{port}/v1/health/liveliness", _FRONT_SECONDS)
        return f"http://{self._host}:{port}/v1"

    def _deploy(self, parts: _Parts, secret: Mapping[str, str]) -> dict[str, str]:
        parameters = {
            "SecretArn": parts.aws.create_secret(_SECRET, {**secret, "DATABASE_URL": parts.database_url}),
            "Config": str(self._config_file),
            "Architecture": deployment.architecture(),
            "AwsEndpointUrl": parts.aws.url,
            "PrivateWebhooks": "true",
        }
        if self._allowed_origins:
            parameters["AllowedOrigins"] = self._allowed_origins
        return deployment.deploy(parts.template, parts.aws, parameters, self.logs / "sam-deploy.log")


def _check_tools() -> None:
    missing = [name for name in _TOOLS if not tool(name, name).exists()]
    if missing:
        raise StackError(f"Not installed: {', '.join(missing)}. `make tools` installs them below .local/tools.")


def _with_time(say: Callable[[str], None]) -> Callable[[str], None]:
    began = time.monotonic()
    return lambda text: say(f"{time.monotonic() - began:6.1f} s  {text}")


def _open(plan: _Plan, parts: _Parts, outputs: dict[str, str], base_url: str) -> Running:
    """The deployed stack, with a new virtual key."""
    master = plan.config.master_key
    master_key = plan.secret[master.name] if isinstance(master, SecretName) else master.text
    api_key = generate_key(base_url, master_key, plan.config.groups)
    warm(base_url, api_key, parts.aws, outputs)
    return Running(
        base_url=base_url,
        api_key=api_key,
        master_key=master_key,
        provider_url=parts.provider_url,
        aws_url=parts.aws.url,
        database_url=parts.database_url,
        outputs=outputs,
    )
