"""Questions that tests ask of an expanded template."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
                    yield (method.upper(), path), function_of(operation)

    def paths(self) -> dict[str, Any]:
        """The operations of each path of the API, by method in lower case."""
        (api,) = self.properties("AWS::ApiGateway::RestApi").values()
        paths: dict[str, Any] = api["Body"]["paths"]
        return paths

    def gateway_responses(self) -> dict[str, Any]:
        (api,) = self.properties("AWS::ApiGateway::RestApi").values()
        responses: dict[str, Any] = api["Body"]["x-amazon-apigateway-gateway-responses"]
        return responses


def function_of(operation: Any) -> str:
    """The logical id of the function that answers an operation."""
    (function,) = re.findall(r"\$\{(\w+)\.Arn\}", operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"])
    return str(function)


def attribute_of(value: Any) -> str:
    """The logical id in `!GetAtt X.Arn`."""
    name: str = value["Fn::GetAtt"][0]
    return name
