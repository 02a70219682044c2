"""The check of the docs' links."""

from pathlib import Path

import pytest

from local import links


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Some `code`, and more\n\n## Twice\n\n## Twice\n")
    return tmp_path


@pytest.mark.parametrize(
    "link",
    [
        "[a](docs/other.md)",
        "[a](docs)",
        '[a](docs/other.md#some-code-and-more "title")',
        "[a](docs/other.md#twice-1)",
        "[a](#here)",
        "[a]: docs/other.md",
        "[a](https://example.com/nothing)",
        "`[a](nothing.md)`",
        "```\n[a](nothing.md)\n```",
    ],
)
def test_a_link_that_leads_somewhere(link: str, docs: Path) -> None:
    (docs / "README.md").write_text(f"# Here\n\n{link}\n")
    assert links.dead(docs) == []


@pytest.mark.parametrize("target", ["nothing.md", "docs/other.md#nothing", "#nothing", "docs/other.md#twice-2"])
def test_a_link_that_leads_nowhere(target: str, docs: Path) -> None:
    (docs / "README.md").write_text(f"# Here\n\nSee [this]({target}).\n")
    assert links.dead(docs) == [f"README.md: {target}"]


def test_a_reference_that_leads_nowhere(docs: Path) -> None:
    (docs / "README.md").write_text("[this]: nothing.md\n")
    assert links.dead(docs) == ["README.md: nothing.md"]


def test_what_is_installed_is_left_out(docs: Path) -> None:
    (docs / ".venv").mkdir()
    (docs / ".venv" / "README.md").write_text("[a](nothing.md)")
    assert links.dead(docs) == []
