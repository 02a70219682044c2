"""Processes that outlive the command that started them, recorded so that another command can end just those."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.errors import with_log

_GRACE = 3.0  # seconds from SIGTERM to SIGKILL
_PAUSE = 0.05  # seconds between two looks
_ZOMBIE = "Z"


class Service:
    """A process with its children: recorded in `{directory}/{name}.pid`, its output in `{directory}/{name}.log`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._record = directory / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None  # if it was this command that started it

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str], cwd: Path) -> None:
        """Start it in a session of its own, so that its children can be ended with it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record = {"pid": self._child.pid, "started": _start_time(self._child.pid)}
        self._record.write_text(json.dumps(record))

    def is_running(self) -> bool:
        return self._pid() is not None

    def await_answer(self, url: str, seconds: float) -> None:
        """Return when a GET of the URL answers 2xx; a `StackError` shows the log if it does not in time."""
        deadline = time.monotonic() + seconds
        while not _answers(url):
            if not self.is_running():
                raise with_log(f"{self.name} ended as it started.", self.log)
            if time.monotonic() > deadline:
                raise with_log(f"{self.name} did not answer at {url} within {seconds:.0f} s.", self.log)
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """End it and its children. Nothing happens if it is gone, or was never started."""
        pid = self._pid()
        if pid is not None:
            _end_group(pid)
        if self._child is not None:
            self._child.wait()
        self._record.unlink(missing_ok=True)

    def _pid(self) -> int | None:
        """The process's id while it runs: an id that another process has by now does not count."""
        try:
            record = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        pid = int(record["pid"])
        return pid if record["started"] is not None and _start_time(pid) == record["started"] else None


def free_port(host: str) -> int:
    """A port of that address which nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return bool(response.status < 300)
    except OSError:
        return False


def _start_time(pid: int) -> str | None:
    """When the process started, in the system's words; `None` if it has ended."""
    state, _, started = _ps("-o", "state=,lstart=", "-p", str(pid)).strip().partition(" ")
    return None if not started or state == _ZOMBIE else started.strip()


def _end_group(pid: int) -> None:
    """Ask the group to end, and after the grace make it."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, order)
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline:
            if not _group_lives(pid):
                return
            time.sleep(_PAUSE)


def _group_lives(pid: int) -> bool:
    """Whether any of the group still runs; one that only waits for its parent to take note does not."""
    members = (line.split() for line in _ps("-A", "-o", "pgid=,state=").splitlines())
    return any(group == str(pid) and not state.startswith(_ZOMBIE) for group, state in members)


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout
