"""The variables that the template sets are those that the code reads."""

import ast
from collections.abc import Iterator
from pathlib import Path

from local.places import ROOT
from manifold.config import environment
from manifold.runtime import environment as lambda_environment
from tests.infra.template import Template

RUNTIME = {"CompletionsApi": {"AWS_LAMBDA_EXEC_WRAPPER"}}
"""The variables that Lambda reads, of each function."""
LIBRARIES = {"AWS_ENDPOINT_URL", "POWERTOOLS_LOG_LEVEL", "POWERTOOLS_SERVICE_NAME", "PYDANTIC_DISABLE_PLUGINS"}
"""The variables that boto3, Powertools and pydantic read."""
SECRET_WORDS = ("KEY", "PASSWORD", "TOKEN", "DATABASE")


def test_what_is_set_is_read_and_what_is_read_is_set(template: Template) -> None:
    for name, function in template.functions().items():
        assert set(function["Environment"]["Variables"]) == _read() | LIBRARIES | RUNTIME.get(name, set())


def test_nothing_secret_is_set(template: Template) -> None:
    for function in template.functions().values():
        names = function["Environment"]["Variables"]
        assert not [name for name in names for word in SECRET_WORDS if word in name]


def test_one_module_reads_the_environment() -> None:
    code = [*(ROOT / "layers").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    readers = {file for file in code if _reads_environment(file)}
    assert readers == {Path(environment.__file__), Path(lambda_environment.__file__)}


def _read() -> set[str]:
    """The names in `Environment` that begin with `MANIFOLD_`."""
    return {text for text in _texts(Path(environment.__file__)) if text.startswith("MANIFOLD_")}


def _texts(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _reads_environment(file: Path) -> bool:
    names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    return bool(names & {"environ", "getenv"})
