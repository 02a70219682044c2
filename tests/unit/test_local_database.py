"""Which database a local stack writes into."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from local import __main__ as commands
from local import postgres
from local.errors import StackError


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "secret", "postgresql+psycopg://me:secret@host/db"])
def test_a_url_that_is_none_is_said_without_its_password(url: str) -> None:
    with pytest.raises(StackError, match="must be a URL such as postgresql://") as caught:
        postgres.place(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_said_before_anything_starts() -> None:
    with pytest.raises(StackError, match=r"DATABASE_URL cannot be reached: .*refused") as caught:
        postgres.place("postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value)


def test_the_demo_leaves_somebodys_own_database_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Mapping[str, str]] = []

    def stack(directory: Path, *, given: Mapping[str, str]) -> None:
        seen.append(given)
        raise StackError("far enough")

    monkeypatch.setattr(commands, "Stack", stack)
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@host/db")
    monkeypatch.setenv("OTHER", "value")
    with pytest.raises(StackError, match="far enough"):
        commands.demo()
    assert "DATABASE_URL" not in seen[0]
    assert seen[0]["OTHER"] == "value"
    assert "left alone" in capsys.readouterr().out
