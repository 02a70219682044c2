"""The values of the names in a `config.yaml`: from the shell, from `.env`, and from the local stack."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from local.errors import StackError
from local.places import ROOT
from manifold import config as configuration
from manifold.config import Config, SecretName
from manifold.errors import ConfigError


def given() -> dict[str, str]:
    """The variables of the shell; those of the checkout's `.env` where the shell has none."""
    return {**read_env(ROOT / ".env"), **os.environ}


def read_env(file: Path) -> dict[str, str]:
    """The `NAME=value` lines of a file, which need not exist."""
    lines = file.read_text().splitlines() if file.exists() else []
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): _unquoted(value.strip()) for name, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    """The value between the quotes, or before the comment."""
    end = value.find(value[0], 1) if value[:1] in ("'", '"') else -1
    return value[1:end] if end > 0 else re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()


def write_env(file: Path, values: Mapping[str, str]) -> None:
    """Write what `read_env` reads, readable by the owner only; a shell can `source` it."""
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def load(file: Path, values: Mapping[str, str]) -> Config:
    """The configuration in the file. Raises a `StackError` that lists all errors, also names without a value."""
    try:
        return configuration.load(file, values.get)
    except ConfigError as error:
        raise StackError(f"{error}\nNames have their values from the shell and from {ROOT / '.env'}.") from error


def named(config: Config, values: Mapping[str, str]) -> dict[str, str]:
    """The value of each name in the configuration; a `StackError` names every one that it mentions and that is missing.

    A master key that nobody gave is made up: here it opens nothing but this stack.
    """
    names = (*config.secret_names(), *config.default_names(), *config.looked_up)
    given = {name: values[name] for name in names if values.get(name)}
    match config.master_key:
        case SecretName(name=name):
            given.setdefault(name, f"sk-{secrets.token_urlsafe(24)}")
    try:
        config.check(given)
    except ConfigError as error:
        raise StackError(f"{error}\nSet them in the shell or in {ROOT / '.env'}.") from error
    return given
