"""Processes that outlive the command that started them. They are recorded, so that another command can end them."""

import contextlib
import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from local.errors import with_log

_GRACE = 1.5  # seconds from SIGTERM to SIGKILL
_PAUSE = 0.05  # seconds between two checks


class Service:
    """A process with its children: recorded in `{directory}/{name}.pid`, its output in `{directory}/{name}.log`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._record = directory / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None  # if it was this command that started it

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str], cwd: Path) -> psutil.Process:
        """Start the process in a session of its own, so that Ctrl-C does not end it."""
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
        process = psutil.Process(self._child.pid)
        self._record.write_text(json.dumps({"pid": process.pid, "created": process.create_time()}))
        return process

    def is_running(self) -> bool:
        return self._process() is not None

    def await_answer(self, url: str, seconds: float) -> None:
        """Return when a GET of the URL answers 2xx. Raises a `StackError` with the log if it does not in time."""
        self._await(lambda: _answers(url), f"did not answer at {url}", seconds)

    def await_port(self, host: str, port: int, seconds: float) -> None:
        """Return when the process listens there. Raises a `StackError` with the log if it does not in time."""
        self._await(lambda: _listens(host, port), f"did not listen on port {port}", seconds)

    def _await(self, ready: Callable[[], bool], lack: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_running():
                raise with_log(f"{self.name} ended as it started.", self.log)
            if time.monotonic() > deadline:
                raise with_log(f"{self.name} {lack} within {seconds:.0f} s.", self.log)
            time.sleep(_PAUSE)

    def stop(self, grace: float = _GRACE) -> None:
        """End the process and its children, by force after `grace` seconds. Nothing happens if there is none."""
        process = self._process()
        if process is not None:
            _end([process, *process.children(recursive=True)], grace)
        if self._child is not None:
            self._child.wait()
        self._record.unlink(missing_ok=True)

    def _process(self) -> psutil.Process | None:
        """The process, if it runs; another process that got its id later is not returned."""
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            return process if process.create_time() == record["created"] and _runs(process) else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None


def free_port(host: str) -> int:
    """A port of that address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return bool(response.status < 300)
    except OSError:
        return False


def _end(processes: Sequence[psutil.Process], grace: float) -> None:
    """Terminate the processes, and kill them after `grace` seconds."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        for process in filter(_runs, processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(order)
        deadline = time.monotonic() + grace
        while any(map(_runs, processes)):
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)


def _runs(process: psutil.Process) -> bool:
    """Whether the process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
