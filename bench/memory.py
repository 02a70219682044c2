"""The memory of a stack's functions during a block: of each process, the bytes before and the most."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from bench.measure import table

MIB = 1024 * 1024
GOAL = 96 * MIB
"""The most bytes that a file may add to the memory of a process."""
PAUSE_SECONDS = 0.02
FUNCTION = re.compile(r"ministack-lambda-manifold-(\w+)-[0-9A-F]+-[^/]*/_worker\.py$")
"""The command line of MiniStack's process for one environment of a function."""


@dataclass
class Process:
    """Resident bytes of one environment of a function."""

    function: str
    pid: int
    before: int
    peak: int

    @property
    def grown(self) -> int:
        return self.peak - self.before


def memory_table(processes: Sequence[Process]) -> str:
    """A row for each process, in MiB."""
    rows = [[one.function, *(f"{value / MIB:.0f}" for value in (one.before, one.peak, one.grown))] for one in processes]
    return table(["process", "MiB before", "MiB at most", f"more (goal: {GOAL // MIB})"], rows)


class Memory:
    """The environments of the functions of a stack, sampled fifty times a second."""

    def __init__(self, aws_url: str) -> None:
        self._emulator = _listener(urlsplit(aws_url).port)
        self._processes: dict[int, Process] = {}

    @property
    def processes(self) -> list[Process]:
        return sorted(self._processes.values(), key=lambda process: (process.function, process.pid))

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample until the block ends."""
        self._sample()
        ended = threading.Event()
        thread = threading.Thread(target=self._sample_until, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _sample_until(self, ended: threading.Event) -> None:
        while not ended.wait(PAUSE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        for process in self._emulator.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                self._note(process)

    def _note(self, process: psutil.Process) -> None:
        size = process.memory_info().rss
        if known := self._processes.get(process.pid):
            known.peak = max(known.peak, size)
        elif named := FUNCTION.search(" ".join(process.cmdline())):
            self._processes[process.pid] = Process(named[1], process.pid, self._before(named[1], size), size)

    def _before(self, function: str, size: int) -> int:
        """The bytes before; for an environment that starts later, those of the function's other environments."""
        return min((other.before for other in self._processes.values() if other.function == function), default=size)


def _listener(port: int | None) -> psutil.Process:
    """The process that listens on this port."""
    listening = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    [pid] = {one.pid for one in listening if one.laddr and one.laddr.port == port}
    return psutil.Process(pid)
