"""The events through the real handlers, each imported anew, as Lambda does, in an environment of its own."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec
from typing import Any

import boto3
import pytest
from samtranslator.yaml_helper import yaml_parse

from local.places import DEFAULT_CONFIG, ROOT
from local.provider import Simulator, defaults
from manifold import gateway, invocation, web
from manifold.config import Environment
from manifold.gateway import Gateway
from manifold.providers.registry import close_providers
from tests.support import aws, postgres
from tests.support.cloudformation import listening
from tests.support.event_scenarios import SCENARIOS, prepare
from tests.support.events import FunctionRunner
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.provider_fixtures",)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_events_are_answered(scenario: str, runner: FunctionRunner, key: str) -> None:
    SCENARIOS[scenario](runner, key)


@dataclass(frozen=True)
class Context:
    """Lambda's context, as far as the handlers use it."""

    function_name: str
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:of-the-tests"
    aws_request_id: str = "request-of-the-tests"

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


class Functions:
    """An environment for each function: a thread with an event loop, which Mangum needs, and the imported handler."""

    def __init__(self, end: ExitStack) -> None:
        self._resources = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
        self._end = end
        self._warm: dict[str, tuple[ThreadPoolExecutor, Any]] = {}

    def invoke(self, function: str, event: Any) -> Any:
        if function not in self._warm:
            thread = self._end.enter_context(ThreadPoolExecutor(max_workers=1))
            self._warm[function] = thread, thread.submit(self._start, function).result()
        thread, handler = self._warm[function]
        # The client of completions belongs to one event loop at a time, and here two functions share it.
        if function == "BatchesExecutor":
            web._runner.run(close_providers())
        answer = thread.submit(handler, event, Context(function)).result()
        if function == "BatchesExecutor":
            invocation.run(close_providers())
        return answer

    def _start(self, function: str) -> Any:
        loop = asyncio.new_event_loop()
        self._end.callback(loop.close)
        asyncio.set_event_loop(loop)
        module, _, name = self._resources[function]["Properties"]["Handler"].rpartition(".")
        return getattr(_afresh(module), name)


def _afresh(module: str) -> Any:
    """A new copy of the module, which is not in `sys.modules`."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.loader is not None
    copy = module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


@pytest.fixture(scope="module")
def key(runner: FunctionRunner) -> Iterator[str]:
    with listening() as cloudformation:
        yield prepare(runner, cloudformation)


@pytest.fixture(scope="module")
def runner(database_server: str, provider_server: Simulator) -> Iterator[FunctionRunner]:
    """Real Postgres without tables, the simulated provider, the shipped `config.yaml`, and moto's AWS."""
    provider_server.reset()
    port = int(provider_server.url.rpartition(":")[2])
    with ExitStack() as end:
        database_url = end.enter_context(postgres.database(database_server))
        emulated = end.enter_context(aws.emulated())
        values = {"DATABASE_URL": database_url, "MANIFOLD_MASTER_KEY": MASTER_KEY, **defaults(port)}
        secret = boto3.client("secretsmanager").create_secret(Name="manifold", SecretString=json.dumps(values))
        own = {
            "MANIFOLD_SECRET_ARN": secret["ARN"],
            "MANIFOLD_CONFIG": str(DEFAULT_CONFIG),
            "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
        }
        _configure(end, emulated.environment | own)
        yield FunctionRunner(Functions(end).invoke, emulated, database_url, MASTER_KEY)


def _configure(end: ExitStack, variables: dict[str, str]) -> None:
    """Give the handlers' gateways these variables, and close their connections at the end."""

    class Configured(Gateway):
        def __init__(self) -> None:
            super().__init__(Environment(variables))
            end.callback(lambda: invocation.run(self.store.close()))

    patch = end.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(gateway, "Gateway", Configured)
    end.callback(lambda: invocation.run(close_providers()))
    end.callback(lambda: web._runner.run(close_providers()))  # the apps' loop, to which their connections belong
