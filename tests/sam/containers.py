"""`sam build` and `sam local`: the template's functions in containers, on their own Python.

Containers reach this machine at the address of the engine's bridge; of the variables given, SAM passes on those alone
that the template declares; and SAM runs neither queues nor schedules.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

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

    def invoke(self, function: str, event: Any) -> Any:
        """Run `sam local invoke`, and return the function's answer."""
        log = self._directory / f"{function}.log"
        arguments = ["local", "invoke", function, "--event", "-", *self._options]
        return json.loads(_sam(arguments, self._environment, log, json.dumps(event)))

    @contextmanager
    def serving(self) -> Iterator[str]:
        """`sam local start-api`, for as long as the context lasts: the base URL."""
        port = free_port(_HOST)
        api = Service("start-api", self._directory)
        listening = ["--host", _HOST, "--port", str(port), "--warm-containers", "EAGER"]
        command: list[str | Path] = [tool("sam", "sam"), "local", "start-api", *listening, *self._options]
        api.start(command, _environment(self._environment), ROOT)
        try:
            api.await_answer(f"http://{_HOST}:{port}/health/liveliness", _SECONDS)
            yield f"http://{_HOST}:{port}"
        finally:
            api.stop(grace=_SECONDS)  # it removes its containers first


def _sam(arguments: Sequence[str], environment: Mapping[str, str], log: Path, given: str = "") -> str:
    """Run SAM and return its standard output. Raises a `StackError` with the end of the log if it fails."""
    with log.open("ab") as errors:
        done = subprocess.run(
            [tool("sam", "sam"), *arguments],
            input=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(environment),
            cwd=ROOT,
            timeout=_SECONDS,
            text=True,
            check=False,
        )
    if done.returncode:
        raise with_log(f"sam {' '.join(arguments[:3])} failed.", log)
    return done.stdout


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME"} or name.startswith(("DOCKER_", "UV_", "PIP_", "SSL_"))
    }
    return {**inherited, **credentials(), "SAM_CLI_TELEMETRY": "0", **more}
