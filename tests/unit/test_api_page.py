"""docs/api.md has each route and each error code of the code, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from manifold.schemas import AttemptOutcome, WaitingFor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
TEMPLATE = (ROOT / "template.yaml").read_text()
ENTRIES = {"batch_error": 0, "BadLine": 0, "LineFailure": 0, "LineError": 1}
"""The calls that create an entry of a batch's `errors.data`, and the position of the code among their arguments."""


def first_cells(title: str) -> list[str]:
    """The texts in backticks in the first column of the table under a heading."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert match
    return re.findall(r"^\| `([^`]+)` \|", match[1], flags=re.MULTILINE)


def texts(node: ast.AST) -> Iterator[str]:
    """The constant texts that can be the value of an expression."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)


def response_codes(tree: ast.AST) -> Iterator[str]:
    """The texts passed as `code=`, or assigned to `default_code`."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value):
                yield from texts(value)
            case ast.Assign(targets=[ast.Name(id="default_code")], value=value):
                yield from texts(value)


def entry_codes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in ENTRIES and len(arguments) > ENTRIES[name]:
                yield from texts(arguments[ENTRIES[name]])


def trees() -> Iterator[ast.AST]:
    for room in ("functions", "layers/common/manifold"):
        for file in (ROOT / room).rglob("*.py"):
            yield ast.parse(file.read_text())


def test_the_routes_are_those_of_the_template() -> None:
    events = re.findall(r"Method: (GET|HEAD|POST|DELETE), Path: \"?([^\"}]+(?:\{\w+\}[^\"}]*)*)\"?\}\}", TEMPLATE)
    assert events
    assert sorted(first_cells("Routes")) == sorted(f"{method} {path}" for method, path in events)


def test_the_error_codes_are_those_of_the_code() -> None:
    raised = {code for tree in trees() for code in response_codes(tree)}
    gateway = set(re.findall(r'"code": "(\w+)"', TEMPLATE))
    assert set(first_cells("Errors")) == raised | gateway


def test_the_codes_of_a_batchs_errors_are_those_of_the_code() -> None:
    assert set(first_cells("Errors of a batch")) == {code for tree in trees() for code in entry_codes(tree)}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("waiting_for.reason", get_args(WaitingFor.model_fields["reason"].annotation)),
        ("attempts.outcome", get_args(AttemptOutcome)),
    ],
)
def test_the_words_of_a_batchs_progress_are_those_of_the_code(column: str, values: tuple[str, ...]) -> None:
    table = re.search(rf"^\| `{re.escape(column)}` \|.*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    assert table
    assert re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table[1].splitlines())) == list(values)
