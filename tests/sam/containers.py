"""`sam build` and `sam local`: the template's functions in containers, on their own Python.

Containers reach this machine at the address of the engine's bridge; of the variables given, SAM passes on those alone
that the template declares; and SAM runs neither queues nor schedules.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx

from local.deployment import architecture
from local.emulator import credentials
from local.errors import with_log
from local.places import ROOT, tool
from local.processes import Service, free_port

_SECONDS = 240.0
_PLATFORMS = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
_HOST = "127.0.0.1"


def bridge() -> str:
    """The address of this machine on the containers' network."""
    shown = subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True, check=True)
    (network,) = json.loads(shown.stdout)
    config = network["IPAM"]["Config"][0]
    # An engine that chose the address itself may not say so; it takes the subnet's first.
    return str(config.get("Gateway") or ip_network(config["Subnet"])[1])


def build(directory: Path) -> Path:
    """The template, built for the functions' Python and for this machine."""
    target = {"UV": str(tool("uv", "uv")), "LAYER_PLATFORM": _PLATFORMS[architecture()]}
    options = ["--build-dir", str(directory), "--parameter-overrides", f"Architecture={architecture()}"]
    _sam(["build", *options], target, directory.with_suffix(".log"))
    return directory / "template.yaml"


class SamLocal:
    """A built template with the variables of its functions; its files are in `directory`."""

    def __init__(self, template: Path, aws_url: str, variables: Mapping[str, str], directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._environment = {"AWS_ENDPOINT_URL": aws_url}  # SAM asks AWS itself whose account this is
        file = directory / "variables.json"
        file.write_text(json.dumps({"Parameters": dict(variables)}))
        parameters = {
            "Architecture": architecture(),
            "AwsEndpointUrl": aws_url,
            "SecretArn": variables["MANIFOLD_SECRET_ARN"],
        }
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        self._options = ["--template-file", str(template), "--skip-pull-image", "--env-vars", str(file)]
        self._options += ["--parameter-overrides", *overrides]

    @contextmanager
    def invoking(self) -> Iterator[Callable[[str, Any], Any]]:
        """Run `sam local start-lambda` in this context: invokes a function with an event and returns its answer."""
        with self._serving("start-lambda") as url, httpx.Client(base_url=url, timeout=_SECONDS) as client:
            yield partial(_invoke, client)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run `sam local start-api` in this context: the base URL."""
        with self._serving("start-api") as url:
            yield url

    @contextmanager
    def _serving(self, command: str) -> Iterator[str]:
        """Each function has one container. It starts at the first request, and handles one request at a time."""
        port = free_port(_HOST)
        service = Service(command, self._directory)
        options = ["--host", _HOST, "--port", str(port), "--warm-containers", "LAZY", "--no-watch", *self._options]
        service.start([tool("sam", "sam"), "local", command, *options], _environment(self._environment), ROOT)
        try:
            service.await_port(_HOST, port, _SECONDS)
            yield f"http://{_HOST}:{port}"
        finally:
            service.stop(grace=_SECONDS)  # it removes its containers first


def _invoke(client: httpx.Client, function: str, event: Any) -> Any:
    answer = client.post(f"/2015-03-31/functions/{function}/invocations", json=event)
    assert answer.status_code == 200, answer.text
    assert "x-amz-function-error" not in answer.headers, answer.text
    return answer.json()


def _sam(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Run SAM. Raises a `StackError` with the end of the log if it fails."""
    with log.open("ab") as output:
        done = subprocess.run(
            [tool("sam", "sam"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(environment),
            cwd=ROOT,
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode:
        raise with_log(f"sam {' '.join(arguments[:3])} failed.", log)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME"} or name.startswith(("DOCKER_", "UV_", "PIP_", "SSL_"))
    }
    return {**inherited, **credentials(), "SAM_CLI_TELEMETRY": "0", **more}
