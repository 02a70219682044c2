"""The version of `CompletionsApi` that API Gateway calls: when it is published anew, and its snapshot."""

from collections.abc import Iterator
from typing import Any

from tests.infra.template import Template, attribute_of, expanded

FUNCTION = "CompletionsApi"
OTHERS = {"CompletionsConcurrency", "ReservedConcurrency"}
"""The parameters of what belongs to the function, and to none of its versions."""


def test_a_snapshot_is_asked_for(written: dict[str, Any], template: Template) -> None:
    assert written["Parameters"]["SnapStart"]["Default"] == "false"
    assert written["Conditions"]["SnapStarts"] == {"Fn::Equals": [{"Ref": "SnapStart"}, "true"]}
    asking = {name: one["SnapStart"] for name, one in template.functions().items() if "SnapStart" in one}
    assert asking == {FUNCTION: {"ApplyOn": {"Fn::If": ["SnapStarts", "PublishedVersions", "None"]}}}


def test_api_gateway_calls_the_version_that_was_published_last(template: Template) -> None:
    ((alias, of),) = (
        (name, one) for name, one in template.properties("AWS::Lambda::Alias").items() if FUNCTION in name
    )
    version = attribute_of(of["FunctionVersion"])
    assert of["FunctionName"] == {"Ref": FUNCTION}
    assert template.resources[version]["Properties"] == {"FunctionName": {"Ref": FUNCTION}}
    assert template.resources[version]["DeletionPolicy"] == "Delete", "the snapshot of a version costs by the hour"
    (api,) = template.properties("AWS::ApiGateway::RestApi").values()
    routes = [path for (_, path), behind in template.routes() if behind == FUNCTION]
    assert len(routes) == 3
    for path in routes:
        uri = api["Body"]["paths"][path]["post"]["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
        assert uri.endswith(f"/functions/${{{alias}}}/response-streaming-invocations")
    granted = [
        one["FunctionName"] for name, one in template.properties("AWS::Lambda::Permission").items() if FUNCTION in name
    ]
    assert granted == [{"Ref": alias}] * 6, "three routes, and their preflights"


def test_a_value_that_a_version_has_publishes_another(written: dict[str, Any], template: Template) -> None:
    """SAM itself compares what is written, so a version would keep the former values of its parameters."""
    function = template.functions()[FUNCTION]
    conditions = written["Conditions"]
    parameters = (set(_references(function, conditions)) & set(written["Parameters"])) - OTHERS
    assert {"SnapStart", "SecretArn", "Config", "LogLevel", "SubnetIds"} <= parameters
    version = _version(template)
    assert _version(expanded(written, {"RequestRate": "7"})) == version
    for name in parameters:
        assert _version(expanded(written, {name: "other"})) != version, name


def test_code_and_layer_publish_another(written: dict[str, Any], template: Template) -> None:
    assert _version(expanded(written, layer="s3://bucket/other")) != _version(template)


def test_what_makes_a_version_is_deployed_nowhere(written: dict[str, Any]) -> None:
    in_vpc = expanded(written, {"SubnetIds": "subnet-a,subnet-b"})
    [condition, values, otherwise] = in_vpc.functions()[FUNCTION]["Code"]["SourceKMSKeyArn"]["Fn::If"]
    assert values["Fn::Join"][1][-1] == {"Fn::Sub": "subnet-a,subnet-b"}, (
        "CloudFormation takes no text where a list is due"
    )
    assert written["Conditions"][condition] == {"Fn::Equals": [{"Ref": "AWS::StackName"}, ""]}, "a stack has a name"
    assert otherwise == {"Ref": "AWS::NoValue"}


def _version(template: Template) -> str:
    (name,) = (name for name in template.properties("AWS::Lambda::Version") if FUNCTION in name)
    return name


def _references(value: Any, conditions: dict[str, Any]) -> Iterator[str]:
    """The names that a value refers to, also by its conditions."""
    if isinstance(value, dict):
        if "Ref" in value:
            yield value["Ref"]
        if "Fn::If" in value:
            yield from _references(conditions[value["Fn::If"][0]], conditions)
        if "Condition" in value and isinstance(value["Condition"], str):
            yield from _references(conditions[value["Condition"]], conditions)
        for one in value.values():
            yield from _references(one, conditions)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one, conditions)
