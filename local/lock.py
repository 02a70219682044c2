"""A lock on a stack: one command at a time may work on it. The lock ends with the command, however it ends."""

import fcntl
import os
from pathlib import Path
from typing import TextIO

from local.errors import StackError


class Lock:
    """A lock on a file, which exists while the lock is held."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Acquire the lock, unless this object has it. Raises a `StackError` that names the process that has it."""
        while self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(_taken(self._path.with_suffix(""), file)) from None
            if self._is_in_place(file):
                self._file = file
                _write_holder(file)

    def release(self) -> None:
        """Release the lock; nothing happens if it is not held."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _is_in_place(self, file: TextIO) -> bool:
        """Whether the locked file still exists: its last holder may have removed it after it was opened here."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _taken(stack: Path, file: TextIO) -> str:
    with file:
        file.seek(0)
        holder = file.read().strip() or "unknown"
    return (
        f"Another command (process {holder}) is starting, using or ending the stack in {stack}. "
        "Wait until it is done, or end it with Ctrl-C."
    )


def _write_holder(file: TextIO) -> None:
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
