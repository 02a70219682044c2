"""The error of a stack on this machine."""

from pathlib import Path

_TAIL = 30  # lines


class StackError(Exception):
    """The stack, or a part of it, does not work. The message says what to do, or where the log is."""


def with_log(message: str, log: Path) -> StackError:
    """An error that shows the end of the log that explains it."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return StackError("\n".join([f"{message} The end of {log}:", *(f"    {line}" for line in lines[-_TAIL:])]))
