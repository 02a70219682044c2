"""Each function of the template: its code, its limits, its log, its role."""

import os
from importlib import import_module
from typing import Any

import pytest

from local.places import ROOT
from local.running import WARM_INVOKED, WARM_READS, WARM_REFUSAL
from tests.infra.template import Template

MANAGED = {  # what SAM itself attaches: to write logs, to join a VPC, to read a queue
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
    "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole",
    "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole",
}
GATEWAY_SECONDS = 29
LAMBDA_SECONDS = 900
POLICY_STATEMENTS = 40  # of about 400 bytes each; a function's resource policy holds 20 KB


def test_code_is_the_functions_directory_as_it_is(written: dict[str, Any]) -> None:
    functions = [one for one in written["Resources"].values() if one["Type"] == "AWS::Serverless::Function"]
    assert "CodeUri" not in written["Globals"]["Function"]  # SAM would not rewrite it in the built template
    assert [one["Properties"]["CodeUri"] for one in functions] == ["functions/"] * len(functions)
    assert all(one["Metadata"]["SkipBuild"] is True for one in functions)


def test_every_handler_is_there(template: Template) -> None:
    for function in template.functions().values():
        module, _, name = function["Handler"].rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_every_function_but_migrations_is_warmed_on_one_machine(template: Template, written: dict[str, Any]) -> None:
    warm = {("GET", path) for path in WARM_READS} | {("POST", WARM_REFUSAL)}
    warmed = {function for route, function in template.routes() if route in warm}
    assert warmed | set(WARM_INVOKED) == set(template.functions()) - {"Migrations"}
    assert {f"{name}Name" for name in WARM_INVOKED} <= set(written["Outputs"])


def test_every_function_has_a_timeout_of_its_own(written: dict[str, Any], template: Template) -> None:
    assert "Timeout" not in written["Globals"]["Function"]
    answering = {function for _, function in template.routes()}
    for name, function in template.functions().items():
        timeout = _default_of(function["Timeout"], written)
        waits = name in answering and "AWS_LAMBDA_EXEC_WRAPPER" not in function["Environment"]["Variables"]
        assert 0 < timeout <= (GATEWAY_SECONDS if waits else LAMBDA_SECONDS), "API Gateway waits longer for streams"


def test_completions_and_api_gateway_have_one_timeout(written: dict[str, Any], template: Template) -> None:
    (api,) = template.properties("AWS::ApiGateway::RestApi").values()
    function = template.functions()["CompletionsApi"]
    assert function["Timeout"] == {"Ref": "CompletionsTimeout"}
    assert function["Environment"]["Variables"]["MANIFOLD_COMPLETIONS_TIMEOUT"] == {"Ref": "CompletionsTimeout"}
    for (method, path), behind in template.routes():
        if behind == "CompletionsApi":
            integration = api["Body"]["paths"][path][method.lower()]["x-amazon-apigateway-integration"]
            assert integration["timeoutInMillis"] == {"Fn::Sub": "${CompletionsTimeout}000"}
            assert integration["responseTransferMode"] == "STREAM"
            assert "/response-streaming-invocations" in str(integration["uri"])


def test_the_wrapper_of_completions_is_in_the_layer_and_can_be_run(template: Template) -> None:
    wrapper = template.functions()["CompletionsApi"]["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"]
    file = ROOT / "layers" / "common" / wrapper.removeprefix("/opt/python/")
    assert os.access(file, os.X_OK)


def test_every_function_has_memory_and_the_layer(template: Template) -> None:
    (layer,) = template.properties("AWS::Lambda::LayerVersion")
    for function in template.functions().values():
        assert function["MemorySize"] >= 512
        assert function["Layers"] == [{"Ref": layer}]


def test_every_function_has_a_log_group_with_a_retention(template: Template) -> None:
    groups = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in template.functions().values()]
    assert len(set(groups)) == len(template.functions())
    for group in groups:
        assert template.resources[group]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_every_function_has_a_role_of_its_own(template: Template) -> None:
    roles = [function["Role"]["Fn::GetAtt"][0] for function in template.functions().values()]
    assert len(set(roles)) == len(roles)
    for role in roles:
        assert set(template.resources[role]["Properties"].get("ManagedPolicyArns", ())) <= MANAGED


CONCURRENCY = {
    "FilesApi": "FilesConcurrency",
    "FilesWorker": "WorkerConcurrency",
    "BatchesApi": "BatchesConcurrency",
    "BatchesWorker": "WorkerConcurrency",
    "BatchesPoller": "PollerConcurrency",
    "BatchesExecutor": "ExecutorConcurrency",
    "WebhooksApi": "WebhooksConcurrency",
    "WebhooksWorker": "WebhooksConcurrency",
    "CompletionsApi": "CompletionsConcurrency",
    "AdminApi": "AdminConcurrency",
}
POSTGRES_CONNECTIONS = 100 - 3
"""PostgreSQL's default `max_connections`, without the connections reserved for its superuser."""


def test_every_function_is_bounded_by_a_parameter_of_its_own(template: Template) -> None:
    for function, parameter in CONCURRENCY.items():
        reserved = template.functions()[function]["ReservedConcurrentExecutions"]
        assert reserved == {"Fn::If": ["IsReserved", {"Ref": parameter}, {"Ref": "AWS::NoValue"}]}
    assert set(template.functions()) == {*CONCURRENCY, "Migrations"}


def test_default_concurrency_fits_the_connections_of_postgres(written: dict[str, Any]) -> None:
    assert written["Parameters"]["ReservedConcurrency"]["Default"] == "true"
    most = sum(written["Parameters"][parameter]["Default"] for parameter in CONCURRENCY.values())
    assert most + 1 <= POSTGRES_CONNECTIONS, "with the one of Migrations"


def test_no_role_has_a_wildcard(template: Template) -> None:
    for role in template.properties("AWS::IAM::Role").values():
        for policy in role.get("Policies", ()):
            for statement in _statements(policy):
                actions, resources = (_list(statement[member]) for member in ("Action", "Resource"))
                assert not any("*" in action for action in actions)
                assert "*" not in resources


def test_api_functions_that_store_nothing_reach_no_bucket(template: Template) -> None:
    for function in (
        "CompletionsApi",
        "AdminApi",
        "Migrations",
        "WebhooksWorker",
    ):
        actions = [action for policy in template.role(function)["Policies"] for action in _actions(policy)]
        assert not [action for action in actions if action.startswith("s3:")]


def test_what_calls_models_may_call_those_that_are_listed(written: dict[str, Any], template: Template) -> None:
    assert written["Parameters"]["BedrockModels"]["Default"] == ""
    may = {
        function: {action for policy in template.role(function)["Policies"] for action in _actions(policy)}
        for function in template.functions()
    }
    bedrock = {function for function, actions in may.items() if any(one.startswith("bedrock:") for one in actions)}
    assert bedrock == {"BatchesExecutor", "CompletionsApi"}
    (policy,) = template.role("CompletionsApi")["Policies"]
    *_, conditional = policy["PolicyDocument"]["Statement"]
    condition, statement, otherwise = conditional["Fn::If"]
    assert condition == "BedrockIsCalled"
    assert statement["Action"] == ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]
    assert statement["Resource"] == {"Ref": "BedrockModels"}
    assert otherwise == {"Ref": "AWS::NoValue"}


def test_resource_policies_keep_within_their_20_kilobytes(template: Template) -> None:
    permissions = template.properties("AWS::Lambda::Permission").values()
    invoked = [permission["FunctionName"]["Ref"] for permission in permissions]
    assert all(invoked.count(function) <= POLICY_STATEMENTS for function in template.functions())


@pytest.mark.parametrize(
    "function",
    [
        "FilesApi",
        "FilesWorker",
        "BatchesApi",
        "BatchesWorker",
        "BatchesPoller",
        "BatchesExecutor",
        "WebhooksApi",
        "WebhooksWorker",
        "CompletionsApi",
    ],
)
def test_code_never_meets_an_older_schema(function: str, template: Template) -> None:
    assert template.resources[function]["DependsOn"] == "MigrationsRun"
    assert template.resources["MigrationsRun"]["Properties"]["Layer"]["Ref"].startswith("CommonLayer")


def test_another_database_is_migrated_too(template: Template) -> None:
    assert template.resources["MigrationsRun"]["Properties"]["Secret"] == {"Ref": "SecretArn"}


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements, with those that a parameter adds."""
    statements = policy["PolicyDocument"]["Statement"]
    return [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in statements]


def _actions(policy: dict[str, Any]) -> list[str]:
    return [action for statement in _statements(policy) for action in _list(statement["Action"])]


def _default_of(value: Any, written: dict[str, Any]) -> Any:
    """The value, or its default if it is a parameter."""
    return written["Parameters"][value["Ref"]]["Default"] if isinstance(value, dict) else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
