"""The function's environment: read in one place; a missing variable is an error only when it is used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from manifold.config import Environment
from manifold.errors import ConfigError
from tests.support.origins import NO_ORIGINS

ROOT = Path(__file__).parents[2]

COMPLETE = {
    "MANIFOLD_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:manifold",
    "MANIFOLD_BUCKET": "manifold-files",
    "MANIFOLD_CONTROL_QUEUE_URL": "https://sqs/control",
    "MANIFOLD_TRANSFERS_QUEUE_URL": "https://sqs/transfers",
    "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
    "LAMBDA_TASK_ROOT": "/var/task",
}


def test_each_variable_has_its_property() -> None:
    environment = Environment(COMPLETE)
    assert environment.secret_arn == COMPLETE["MANIFOLD_SECRET_ARN"]
    assert environment.bucket == "manifold-files"
    assert environment.control_queue_url == "https://sqs/control"
    assert environment.transfers_queue_url == "https://sqs/transfers"
    assert environment.completions_timeout == 29.0
    assert environment.config_path == Path("/var/task/config.yaml")


@pytest.mark.parametrize(
    "name",
    ["MANIFOLD_BUCKET", "MANIFOLD_COMPLETIONS_TIMEOUT", "MANIFOLD_CONTROL_QUEUE_URL", "MANIFOLD_TRANSFERS_QUEUE_URL"],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named_at_use(name: str, value: str | None) -> None:
    environment = Environment({} if value is None else {name: value})
    with pytest.raises(ConfigError, match=name):
        getattr(environment, name.removeprefix("MANIFOLD_").lower())


@pytest.mark.parametrize(("value", "prepared"), [(None, False), ("", False), ("false", False), ("true", True)])
def test_statements_are_prepared_where_it_is_asked_for(value: str | None, prepared: bool) -> None:
    environment = Environment({} if value is None else {"MANIFOLD_PREPARED_STATEMENTS": value})
    assert environment.prepared_statements is prepared


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        (None, ()),
        ("", ()),
        ("*", ("*",)),
        ("https://app.example.com", ("https://app.example.com",)),
        ("https://app.example.com, http://localhost:3000", ("https://app.example.com", "http://localhost:3000")),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
        ("capacitor://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_are_separated_by_commas(value: str | None, origins: tuple[str, ...]) -> None:
    environment = Environment({} if value is None else {"MANIFOLD_ALLOWED_ORIGINS": value})
    assert environment.allowed_origins == origins


@pytest.mark.parametrize("wrong", NO_ORIGINS)
def test_what_is_no_origin_is_named(wrong: str) -> None:
    environment = Environment({"MANIFOLD_ALLOWED_ORIGINS": f"https://app.example.com,{wrong}"})
    with pytest.raises(ConfigError, match=f"{re.escape(repr(wrong))} in MANIFOLD_ALLOWED_ORIGINS is not an origin"):
        _ = environment.allowed_origins


def test_no_secret_is_no_error() -> None:
    assert Environment({"MANIFOLD_SECRET_ARN": ""}).secret_arn is None


def test_the_configuration_lies_with_the_functions_code() -> None:
    assert Environment({}).config_path == ROOT / "functions" / "config.yaml"
    assert Environment({"LAMBDA_TASK_ROOT": "/t", "MANIFOLD_CONFIG": "eu.yaml"}).config_path == Path("/t/eu.yaml")
    assert Environment({"LAMBDA_TASK_ROOT": "/t", "MANIFOLD_CONFIG": "/etc/m.yaml"}).config_path == Path("/etc/m.yaml")


def test_the_process_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIFOLD_BUCKET", "before")
    environment = Environment.from_process()
    monkeypatch.setenv("MANIFOLD_BUCKET", "after")
    assert environment.bucket == "before"


def test_values_are_not_shown() -> None:
    assert "sk-secret" not in repr(Environment({"AZURE_API_KEY": "sk-secret"}))


def test_importing_the_configuration_needs_pydantic_and_yaml_alone() -> None:
    heavy = ["boto3", "botocore", "httpx", "psycopg", "fastapi", "mangum", "aws_lambda_powertools", "orjson", "asyncio"]
    code = f"import sys, manifold.config; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "layers" / "common", capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_nothing_else_reads_the_process_environment() -> None:
    sources = [*(ROOT / "layers" / "common").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    readers = {
        path.name
        for path in sources
        if "os.environ[" in (text := path.read_text())
        or "getenv" in text
        or "(os.environ)" in text
        or "os.environ." in text
    }
    assert readers == {"environment.py"}, "that of manifold.config, and that of manifold.runtime"
