"""OpenAI's SDKs send every parameter that they have: answers fit their strict types, and providers get it."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from local.places import DEFAULT_CONFIG, ROOT
from local.provider import Simulator, defaults
from manifold.gateway import Gateway
from tests.stack import sdk_parameters
from tests.support import apps, gateways
from tests.support.aws import Aws
from tests.support.gateways import MASTER_KEY
from tests.support.http_server import PYTHONS, serve_app

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")

APPS = {"files": "files", "uploads": "files", "batches": "batches", "models": "admin"}
"""The app of each first part of a path, except that of completions."""


@pytest.fixture
def base_url(database_url: str, simulated_provider: Simulator, aws: Aws) -> Iterator[str]:
    port = int(simulated_provider.url.rpartition(":")[2])
    variables = {"MANIFOLD_CONFIG": str(DEFAULT_CONFIG), **defaults(port), **aws.environment}
    gateway = gateways.gateway(database_url, variables)
    with serve_app(_all(gateway), gateway) as url:
        yield url


def _all(gateway: Gateway) -> ASGIApp:
    """Every app behind one address, as at API Gateway."""
    made = {name: apps.create(name, gateway) for name in apps.NAMES}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await made[APPS.get(scope["path"].split("/")[1], "completions")](scope, receive, send)

    return app


@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python.parts[-3])
def test_every_parameter_at_once(python: Path, base_url: str, simulated_provider: Simulator) -> None:
    done = subprocess.run(
        [python, ROOT / "tests/stack/sdk_parameters.py"],
        env={**os.environ, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": MASTER_KEY},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.startswith("ok with openai"), done.stderr
    assert _got(simulated_provider, "chat.create") == _sent("gpt-4.1-mini", sdk_parameters.CHATS)
    assert _got(simulated_provider, "completions.create") == _sent("gpt-4.1-mini", sdk_parameters.TEXTS)
    assert _got(simulated_provider, "embeddings.create") == _sent("text-embedding-3-small", sdk_parameters.EMBEDDINGS)


def _got(provider: Simulator, route: str) -> list[dict[str, Any]]:
    """The bodies of the route's calls, as the provider got them."""
    return [entry["body"] for entry in provider.log("openai", route)]


def _sent(model: str, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The client's parameters, with the deployment's model."""
    return [{**body, "model": model} for body in bodies]
