"""The functions of the template whose routes stream: what the front needs to run each as AWS does."""

import io
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local.emulator import REGION, Emulator

STREAM = "RESPONSE_STREAM"
SESSION_SECONDS = 12 * 3600


class Template(yaml.SafeLoader):
    """YAML in which CloudFormation's own tags mean nothing but the name that they refer to."""


Template.add_multi_constructor("!", lambda loader, suffix, node: getattr(node, "value", None))


@dataclass(frozen=True, slots=True)
class StreamedFunction:
    """A deployed function, as the front starts it."""

    arn: str
    seconds: float
    """Its timeout."""
    environment: Mapping[str, str]
    routes: list[tuple[str, str]]
    """Method and path of those that stream."""


def routes(template: Path) -> dict[str, list[tuple[str, str]]]:
    """The streamed routes of each function, by its name in the template."""
    resources: Mapping[str, Any] = yaml.load(template.read_text(), Template)["Resources"]  # noqa: S506 (it is a SafeLoader)
    found = {name: list(_routes(resource)) for name, resource in resources.items()}
    return {name: some for name, some in found.items() if some}


def streamed(template: Path, aws: Emulator, stack: str, directory: Path) -> list[StreamedFunction]:
    """The deployed functions that have streamed routes. Their packages are unpacked below `directory`."""
    return [_function(aws, stack, name, some, directory / name) for name, some in routes(template).items()]


def _routes(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for event in resource.get("Properties", {}).get("Events", {}).values() if _is_function(resource) else ():
        properties = event["Properties"]
        if properties.get("ResponseTransferMode") == STREAM:
            yield properties["Method"], properties["Path"]


def _is_function(resource: Mapping[str, Any]) -> bool:
    return resource.get("Type") == "AWS::Serverless::Function"


def _function(aws: Emulator, stack: str, name: str, some: list[tuple[str, str]], directory: Path) -> StreamedFunction:
    resource = aws.client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=name)
    client = aws.client("lambda")
    deployed = client.get_function(FunctionName=resource["StackResourceDetail"]["PhysicalResourceId"])
    configuration = deployed["Configuration"]
    code, layers = directory / "code", directory / "layers"
    _unpack(deployed["Code"]["Location"], code)
    for layer in configuration.get("Layers", ()):
        _unpack(client.get_layer_version_by_arn(Arn=layer["Arn"])["Content"]["Location"], layers)
    session = aws.client("sts").assume_role(
        RoleArn=configuration["Role"], RoleSessionName=name, DurationSeconds=SESSION_SECONDS
    )["Credentials"]
    environment = {
        **configuration.get("Environment", {}).get("Variables", {}),
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_NAME": configuration["FunctionName"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"]),
        "AWS_LAMBDA_FUNCTION_VERSION": configuration["Version"],
        "LAMBDA_TASK_ROOT": str(code),
        "PYTHONPATH": f"{code}:{layers / 'python'}",
        "_HANDLER": configuration["Handler"],
    }
    return StreamedFunction(configuration["FunctionArn"], configuration["Timeout"], environment, some)


def _unpack(url: str, directory: Path) -> None:
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 (the emulator's own)
        zipfile.ZipFile(io.BytesIO(response.read())).extractall(directory)
