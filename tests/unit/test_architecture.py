"""docs/architecture.md is true: its transitions are those of the SQL and the code, its numbers and names exist."""

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import yaml

from local.streamed import Template
from manifold.store.batch_leases import BatchLeases
from manifold.store.batches import Batches
from manifold.store.deliveries import Deliveries
from manifold.store.files import Files
from manifold.store.inputs import Inputs
from manifold.store.job_results import JobResults
from manifold.store.jobs import Jobs
from manifold.store.shard_leases import ShardLeases
from manifold.store.shards import Shards
from manifold.store.uploads import Uploads
from manifold.store.webhooks import Webhooks

ROOT = Path(__file__).parents[2]
PAGE = re.sub(r"^```.*?^```", "", (ROOT / "docs" / "architecture.md").read_text(), flags=re.MULTILINE | re.DOTALL)
SQL = "\n".join(file.read_text() for file in sorted((ROOT / "layers").rglob("migrations/*.sql")))
AGGREGATES = {
    one.__name__: one
    for one in (
        Files,
        Inputs,
        Batches,
        BatchLeases,
        Shards,
        ShardLeases,
        Jobs,
        JobResults,
        Uploads,
        Webhooks,
        Deliveries,
    )
}
STATED = ("uploads", "inputs", "batches", "shards", "jobs", "deliveries")
"""The tables with states. A file's status is set once, and its deletion has its own columns."""


@dataclass(frozen=True)
class Transition:
    """One row of the transition table; `before` is empty where the row is new."""

    before: frozenset[str]
    after: frozenset[str]
    functions: frozenset[str]


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, f"docs/architecture.md has no section '{title}'"
    return found[1]


def cells(text: str) -> Iterator[list[str]]:
    """The cells of each table row below a heading row."""
    for table in re.findall(r"^\|.*\n\|[-| ]+\n((?:\|.*\n)+)", text, flags=re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in line[1:-1].split("|")]


def names(text: str) -> frozenset[str]:
    """The texts in backticks."""
    return frozenset(re.findall(r"`([^`]+)`", text))


def code(room: str) -> list[Path]:
    """Its modules."""
    return list((ROOT / room).rglob("*.py"))


def transitions(title: str) -> list[Transition]:
    rows = [(row[0].split("→"), row[2]) for row in cells(section(title))]
    return [Transition(names(before), names(after), names(function)) for (before, after), function in rows]


def checked_states(table: str) -> frozenset[str]:
    """The states that the table's CHECK constraint allows, in the last migration that has one."""
    created = re.search(rf"CREATE TABLE {table} \((.*?)\n\);", SQL, flags=re.DOTALL)
    assert created
    allowed = re.findall(
        r"^ +(?:status|state) .*?CHECK \(\w+ IN \((.*?)\)\)", created[1], flags=re.DOTALL | re.MULTILINE
    )
    changed = rf"CONSTRAINT {table}_(?:status|state)_check CHECK \(\w+ IN \((.*?)\)\)"
    allowed += re.findall(changed, SQL, flags=re.DOTALL)
    assert allowed, f"{table} has no checked state"
    return frozenset(re.findall(r"'(\w+)'", allowed[-1]))


def updates(table: str) -> dict[str, frozenset[str]]:
    """Each method of the store that sets the table's state: its name, and the states that its SQL mentions."""
    found = {}
    for aggregate, code in AGGREGATES.items():
        for name, method in inspect.getmembers(code, inspect.isfunction):
            source = inspect.getsource(method)
            if re.search(rf"UPDATE {table}\s+SET (?:(?!WHERE).)*?\b(?:status|state) =", source, flags=re.DOTALL):
                found[f"{aggregate}.{name}"] = frozenset(re.findall(r"'(\w+)'", source)) & checked_states(table)
    return found


@pytest.mark.parametrize("table", [*STATED, "files"])
def test_the_states_are_those_of_the_constraint(table: str) -> None:
    text = section(table.capitalize())
    stated = {state for one in transitions(table.capitalize()) for state in one.before | one.after}
    assert stated <= checked_states(table)
    assert checked_states(table) <= names(text), "a state that the page does not mention"


@pytest.mark.parametrize("table", STATED)
def test_every_state_can_be_reached(table: str) -> None:
    reached = {state for one in transitions(table.capitalize()) for state in one.after}
    assert reached == checked_states(table)


@pytest.mark.parametrize("table", STATED)
def test_the_functions_are_all_that_set_a_state(table: str) -> None:
    documented = {name for one in transitions(table.capitalize()) if one.before for name in one.functions}
    assert documented == set(updates(table))


@pytest.mark.parametrize("table", STATED)
def test_a_function_goes_from_and_to_the_states_that_the_page_gives_it(table: str) -> None:
    before: dict[str, set[str]] = defaultdict(set)
    after: dict[str, set[str]] = defaultdict(set)
    for one in transitions(table.capitalize()):
        for name in one.functions & updates(table).keys():
            before[name] |= one.before
            after[name] |= one.after
    for name, mentioned in updates(table).items():
        assert mentioned <= before[name] | after[name], f"{name} names a state that the page does not give it"
        assert after[name] <= mentioned or _is_any_end(name), f"{name} does not set all that the page says"


def _is_any_end(function: str) -> bool:
    """The one function whose new state is a parameter."""
    return function == "Batches.end"


def test_a_batch_ends_in_each_of_its_ends_and_no_other() -> None:
    after = {state for one in transitions("Batches") if "Batches.end" in one.functions for state in one.after}
    [closed] = re.findall(r"CHECK \(\(due_at IS NULL\) = \(status IN \((.*?)\)\)\)", SQL)
    assert after == set(re.findall(r"'(\w+)'", closed))


def test_the_functions_that_are_named_exist() -> None:
    named = re.findall(rf"`({'|'.join(AGGREGATES)})\.(\w+)`", PAGE)
    assert [one for one in named if not hasattr(AGGREGATES[one[0]], one[1])] == []


def test_the_places_that_are_named_exist() -> None:
    places = {name for name in names(PAGE) if re.match(r"(functions|layers|local|tests|docs)/.+\.\w+$", name)}
    assert {place for place in places if not (ROOT / place).exists()} == set()


def exists(name: str) -> bool:
    """Whether a dotted name is that of a module, or of what a module holds."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_modules_that_are_named_exist() -> None:
    named = {name for name in names(PAGE) if re.match(r"(admin|batches|completions|files|manifold|webhooks)\.", name)}
    assert named
    assert {name for name in named if not exists(name)} == set()


def test_what_is_named_in_a_module_exists() -> None:
    named = re.findall(r"`(\w+)` in\s+`([\w/]+/\w+\.py)`", PAGE)
    assert named
    assert [name for name, place in named if not re.search(rf"\b{name}\b", (ROOT / place).read_text())] == []


def test_the_pages_that_the_code_names_exist() -> None:
    files = [ROOT / "template.yaml", *(file for room in ("functions", "layers", "local") for file in code(room))]
    named = {page for file in files for page in re.findall(r"\bdocs/[\w/.-]+\.md\b", file.read_text())}
    assert {page for page in named if not (ROOT / page).exists()} == set()


def test_the_environment_is_read_in_one_module() -> None:
    readers = sorted(
        str(file.relative_to(ROOT))
        for file in (*code("functions"), *code("layers"))
        if re.search(r"\bos\.(environ|getenv)\b(?!/)", file.read_text())
    )
    assert readers == [
        "layers/common/manifold/config/environment.py",
        "layers/common/manifold/runtime/environment.py",  # Lambda's own
    ]


READ_THE_CLOCK = {
    "functions/batches/idleness.py": "what this environment remembers of the activity mark",
    "functions/completions/api_gateway.py": "API Gateway's time of arrival is compared with Lambda's",
    "functions/files/transfers/copies.py": "what this environment remembers of a deployment",
    "functions/webhooks/endpoints.py": "when a sample event is sent",
    "layers/common/manifold/activity.py": "what this environment remembers of the activity mark",
    "layers/common/manifold/auth.py": "what this environment remembers of a key",
    "layers/common/manifold/prices.py": "the price of the day",
    "layers/common/manifold/providers/anthropic/batch_lines.py": "`created` of an answer",
    "layers/common/manifold/providers/cohere/batch_lines.py": "`created` of an answer",
    "layers/common/manifold/providers/failures.py": "a provider's date, bounded",
    "layers/common/manifold/providers/dialect.py": "`created` of an answer",
    "layers/common/manifold/providers/google_api.py": "`created` of an answer",
    "layers/common/manifold/runtime/loop.py": "the deadline of an invocation, as Lambda gives it",
    "layers/common/manifold/secrets.py": "what this environment remembers of the secret",
    "layers/common/manifold/store/connection.py": "whether the connection has rested",
}
"""Who reads the machine's clock, and for what: no age of a row (docs/decisions/0005-one-clock.md)."""


def test_the_ages_of_rows_are_the_databases() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for file in (*code("functions"), *code("layers"))
        if re.search(r"\bdatetime\.(now|utcnow)\(|\btime\.time\b", file.read_text())
    }
    assert readers == set(READ_THE_CLOCK)


def test_the_indexes_that_are_named_exist() -> None:
    indexes = {name for name in names(PAGE) if re.fullmatch(r"[a-z]+_one_\w+", name)}
    assert indexes == set(re.findall(r"UNIQUE INDEX ([a-z]+_one_\w+)", SQL))


@pytest.mark.parametrize("row", list(cells(section("Constants"))), ids=lambda row: row[2])
def test_numbers_of_the_page_are_those_of_the_code(row: list[str]) -> None:
    module, _, name = row[2].strip("`").rpartition(".")
    assert getattr(import_module(module), name) == float(row[1])


LIMITS = ("Timeout", "MemorySize")


def test_timeouts_and_memory_are_those_of_the_template() -> None:
    template: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), Template)
    defaults = {name: one.get("Default") for name, one in template["Parameters"].items()}
    functions = {
        name: [str(defaults.get(one["Properties"][setting], one["Properties"][setting])) for setting in LIMITS]
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::Serverless::Function"
    }
    documented = {row[0].strip("`"): row[1:3] for row in cells(section("The way through the system"))}
    assert documented == functions


def _fields_of_log_lines() -> Iterator[tuple[Path, ast.expr]]:
    for module in [*code("functions"), *code("layers/common/manifold")]:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("observe.event", "observe.warning"):
                yield from ((module, keyword.value) for keyword in node.keywords)


def test_errors_are_logged_without_their_text() -> None:
    texts = {"message", "words", "told"}
    leaks = [
        f"{module.name}: {ast.unparse(value)}"
        for module, value in _fields_of_log_lines()
        if any(isinstance(node, ast.Attribute) and node.attr in texts for node in ast.walk(value))
    ]
    assert not leaks, "log an error by observe.failed"
