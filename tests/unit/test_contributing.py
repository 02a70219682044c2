"""CONTRIBUTING.md is true: what it names exists, and its recipes fit each provider, route and migration."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from manifold.providers.registry import BATCHES, DIALECTS
from manifold.store import migrations

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PROVIDERS = sorted({package for package, _ in DIALECTS.values()})
PLACEHOLDER = re.compile(r"PROVIDER|FUNCTION|AGGREGATE|NNNN_NAME|NAME")
PLACE = re.compile(
    r"(?:functions|layers|local|tests|docs|events)/\S+|template\.yaml|pyproject\.toml|CHANGELOG\.md|\.\w[\w/.-]+"
)


def section(title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert match, f"CONTRIBUTING.md has no section '{title}'"
    return match[1]


def places(text: str) -> Iterator[str]:
    """The texts in backticks that are paths of this repository."""
    return (name for name in re.findall(r"`([^`\s]+)`", text) if PLACE.fullmatch(name))


def recipes() -> list[str]:
    return re.findall(r"^## (How to .+)$", PAGE, flags=re.MULTILINE)


def test_every_file_that_is_named_exists() -> None:
    named = {place for place in places(PAGE) if not PLACEHOLDER.search(place)}
    made = (".venv/", ".local/")
    assert sorted(place for place in named if not place.startswith(made) and not (ROOT / place).exists()) == []


def test_every_question_has_a_place() -> None:
    rows = [row for row in section("Where is it?").splitlines() if row.startswith("| W")]
    assert len(rows) >= 7
    assert [row for row in rows if not list(places(row))] == []


@pytest.mark.parametrize("title", recipes())
def test_a_recipe_has_steps_with_files(title: str) -> None:
    steps = re.findall(r"^\d+\. .*(?:\n   .*)*", section(title), flags=re.MULTILINE)
    assert steps
    assert [step for step in steps if not list(places(step))] == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_is_what_its_recipe_makes(provider: str) -> None:
    named = [place.replace("PROVIDER", provider) for place in places(section("How to add a provider"))]
    assert [place for place in named if not (ROOT / place).exists()] == []
    texts = [ROOT / place for place in named if (ROOT / place).is_file() and place != "CHANGELOG.md"]
    assert [file.name for file in texts if provider not in file.read_text().lower()] == []


def test_the_recipe_names_each_module_that_lists_the_providers() -> None:
    named = set(places(section("How to add a provider")))
    modules = [file for room in ("layers/common/manifold", "local/provider") for file in (ROOT / room).rglob("*.py")]
    lists = {
        str(file.relative_to(ROOT))
        for file in modules
        if all(re.search(rf"\b{provider}\b", file.read_text()) for provider in PROVIDERS)
    }
    assert lists <= named


@pytest.mark.parametrize("dialect", sorted(BATCHES))
def test_each_dialect_of_batches_is_what_its_recipe_makes(dialect: str) -> None:
    package, _ = BATCHES[dialect]
    named = places(section("How to add the batches of a provider"))
    assert [place for place in named if not (ROOT / place.replace("PROVIDER", package)).exists()] == []


def test_each_function_with_routes_has_what_the_recipe_names() -> None:
    template = (ROOT / "template.yaml").read_text()
    functions = set(re.findall(r"Handler: (\w+)\.app\.handler", template))
    assert functions
    assert [name for name in functions if not (ROOT / "functions" / name / "app.py").exists()] == []


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(name.partition("_")[0]) for name in migrations.names()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_hooks_run_what_make_check_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    checks = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in hooks:
        command = next(word for word in hook["entry"].split() if word.startswith(".venv/bin/"))
        tool = hook["entry"].split()[-1] if command.endswith("python") else command.removeprefix(".venv/bin/")
        assert tool in checks, f"make check does not run {tool}"


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [step.get("run") for step in workflow["jobs"]["ci"]["steps"]]
    assert "bash .ci/run" in commands
