"""Questions that tests ask of an expanded template."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

Resource = dict[str, Any]
Route = tuple[str, str]
"""A method in upper case, and a path."""


@dataclass(frozen=True)
class Template:
    """The resources by their logical ids."""

    resources: dict[str, Resource]

    def properties(self, kind: str) -> dict[str, Any]:
        """The properties of each resource of a type."""
        return {name: one["Properties"] for name, one in self.resources.items() if one["Type"] == kind}

    def functions(self) -> dict[str, Any]:
        return self.properties("AWS::Lambda::Function")

    def role(self, function: str) -> Any:
        """The properties of the function's role."""
        return self.resources[attribute_of(self.functions()[function]["Role"])]["Properties"]

    def queue_of(self, mapping: Resource) -> Any:
        """The properties of the queue that an event source mapping reads."""
        return self.resources[attribute_of(mapping["EventSourceArn"])]["Properties"]

    def routes(self) -> Iterator[tuple[Route, str]]:
        """Each route of the API, with the function that answers it; browsers' OPTIONS are no routes."""
        for path, methods in self.paths().items():
            for method, operation in methods.items():
                if method != "options":
                    yield (method.upper(), path), self.function_of(operation)

    def paths(self) -> dict[str, Any]:
        """The operations of each path of the API, by method in lower case."""
        (api,) = self.properties("AWS::ApiGateway::RestApi").values()
        paths: dict[str, Any] = api["Body"]["paths"]
        return paths

    def function_of(self, operation: Any) -> str:
        """The logical id of the function that answers an operation, itself or by its alias."""
        uri = operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
        (name,) = re.findall(r"\$\{(\w+)(?:\.Arn)?\}/", uri)
        alias = self.resources[name]["Properties"].get("FunctionName", {})
        return str(alias.get("Ref", name))

    def gateway_responses(self) -> dict[str, Any]:
        (api,) = self.properties("AWS::ApiGateway::RestApi").values()
        responses: dict[str, Any] = api["Body"]["x-amazon-apigateway-gateway-responses"]
        return responses


def expanded(
    written: Mapping[str, Any], parameters: Mapping[str, str] | None = None, layer: str = "s3://bucket/key"
) -> Template:
    """The template that `sam deploy` sends to CloudFormation, with these parameters and this content of the layer."""
    packaged = deepcopy(dict(written))
    for resource in packaged["Resources"].values():
        for place, content in (("CodeUri", "s3://bucket/key"), ("ContentUri", layer)):
            if place in resource["Properties"]:
                resource["Properties"][place] = content
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        translator = Translator(managed_policy_map={}, sam_parser=Parser())
        return Template(translator.translate(packaged, dict(parameters or {}))["Resources"])


def attribute_of(value: Any) -> str:
    """The logical id in `!GetAtt X.Arn`."""
    name: str = value["Fn::GetAtt"][0]
    return name
