"""Each function may do what its code does, and no more: the grants of the template against the calls in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.places import ROOT
from manifold.activity import KEY
from tests.infra.template import Template

CODE = ROOT / "functions"
LAYER = ROOT / "layers/common/manifold"
OF_LAYER = {
    LAYER / "announcement.py": "from manifold.announcement",
    LAYER / "execution/batches.py": "_deployments.call(deployment,",
    LAYER / "execution/parts.py": "from manifold.execution.parts",
}
"""The modules of the layer that send messages or use the bucket, each with what shows that a function uses it."""
ACTIONS_OF_STORAGE = {
    "clear": {"s3:ListBucket", "s3:DeleteObject"},
    "compose": {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"},
    "delete": {"s3:DeleteObject"},
    "gather": {"s3:GetObject"},
    "etag": {"s3:GetObject", "s3:ListBucket"},
    "fetch": {"s3:GetObject"},
    "link": {"s3:GetObject"},
    "get": {"s3:GetObject", "s3:ListBucket"},
    "put": {"s3:PutObject"},
    "read": {"s3:GetObject"},
    "size": {"s3:GetObject", "s3:ListBucket"},
    "upload_link": {"s3:PutObject"},
    "write": {"s3:PutObject", "s3:AbortMultipartUpload"},
}
"""The actions that each method of `Storage` needs. Without `s3:ListBucket` a missing object is a 403, not a 404."""
FUNCTIONS = (
    "FilesApi",
    "FilesWorker",
    "BatchesApi",
    "BatchesWorker",
    "BatchesPoller",
    "BatchesExecutor",
    "WebhooksApi",
    "WebhooksWorker",
    "CompletionsApi",
    "AdminApi",
    "Migrations",
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_sends_to_the_queues_that_its_code_sends_to(function: str, template: Template) -> None:
    kinds = set(re.findall(r'\bMessage\("(\w+)"', _source(function, template)))
    queues = {
        {
            "batch": "ControlQueue",
            "chunk": "ExecutionQueue",
            "shard": "ControlQueue",
            "webhook": "WebhooksQueue",
        }.get(kind, "TransfersQueue")
        for kind in kinds
    }
    assert _granted(function, template, "sqs:SendMessage") == queues


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_does_with_objects_what_its_code_does(function: str, template: Template) -> None:
    methods = set(re.findall(r"\bstorage\.(\w+)\(", _source(function, template).replace("_storage", "storage")))
    needed = set[str]().union(*(ACTIONS_OF_STORAGE[method] for method in methods))
    needed |= ACTIONS_OF_STORAGE["put"] if "mark_activity" in _source(function, template) else set()
    needed |= ACTIONS_OF_STORAGE["etag"] if "ActivityMark" in _source(function, template) else set()
    assert {action for action in _actions(function, template) if action.startswith("s3:")} == needed


@pytest.mark.parametrize("function", ["BatchesApi", "WebhooksApi", "BatchesPoller"])
def test_a_function_that_moves_no_files_may_use_the_activity_mark_alone(function: str, template: Template) -> None:
    actions = {"s3:PutObject", "s3:GetObject"}
    objects = [one["Resource"] for one in _statements(function, template) if actions & set(_listed(one["Action"]))]
    assert objects == [{"Fn::Sub": f"${{Bucket.Arn}}/{KEY}"}]


def test_what_sends_events_may_put_them_on_the_event_bus_if_there_is_one(template: Template) -> None:
    for function in FUNCTIONS:
        granted = [
            statement["Fn::If"]
            for policy in template.role(function).get("Policies", ())
            for statement in policy["PolicyDocument"]["Statement"]
            if "events:PutEvents" in str(statement)
        ]
        own = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": {"Ref": "BatchEventBusArn"}}
        expected = [["EventsGoToBus", own, {"Ref": "AWS::NoValue"}]] if function == "WebhooksWorker" else []
        assert granted == expected


def test_another_event_bus_is_noted_by_the_deploy(template: Template) -> None:
    """The migrations write it to the database. They run again if a property of their resource changes."""
    assert template.resources["MigrationsRun"]["Properties"]["EventBus"] == {"Ref": "BatchEventBusArn"}


def test_every_function_is_covered(template: Template) -> None:
    assert set(template.functions()) == set(FUNCTIONS)


def _source(function: str, template: Template) -> str:
    """The source of the function's module, of what it imports of its own package, and of the layer's for it."""
    module = template.functions()[function]["Handler"].removesuffix(".handler")
    source = "\n".join(file.read_text() for file in _closure(CODE / f"{module.replace('.', '/')}.py"))
    of_layer = [file for file, mark in OF_LAYER.items() if mark in source]
    return source + "".join(file.read_text() for file in of_layer)


def _closure(start: Path) -> set[Path]:
    files, ahead = set[Path](), [start]
    while ahead:
        file = ahead.pop()
        if file not in files:
            files.add(file)
            ahead.extend(_imported(file))
    return files


def _imported(file: Path) -> Iterator[Path]:
    package = file.relative_to(CODE).parts[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            place = CODE.joinpath(*node.module.split("."))
            names = [place / f"{alias.name}.py" for alias in node.names]
            yield from (one for one in [place.with_suffix(".py"), *names] if one.exists())


def _statements(function: str, template: Template) -> Iterator[dict[str, Any]]:
    for policy in template.role(function).get("Policies", ()):
        for statement in policy["PolicyDocument"]["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def _actions(function: str, template: Template) -> set[str]:
    return {action for statement in _statements(function, template) for action in _listed(statement["Action"])}


def _granted(function: str, template: Template, action: str) -> set[str]:
    """The resources on which the function may do this action."""
    granting = [one for one in _statements(function, template) if action in _listed(one["Action"])]
    return {resource["Fn::GetAtt"][0] for one in granting for resource in _listed(one["Resource"])}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
