"""Timing a call in turn with its baseline, and the table that compares them.

A shared machine is noisy, so nothing is measured alone: each call is paired with one of its baseline, and the ratio of
the medians counts.
"""

import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter, process_time

Measure = Callable[[], float]
"""Does something once, and returns the processor seconds that it took."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of each call, and of the call of its baseline next to it."""

    name: str
    seconds: Sequence[float]
    baseline: Sequence[float]

    @property
    def ratio(self) -> float:
        return median(self.seconds) / median(self.baseline)


def seconds(work: Callable[[], object]) -> float:
    """The seconds that a call takes, by the clock."""
    began = perf_counter()
    work()
    return perf_counter() - began


def processor(work: Callable[[], object]) -> Measure:
    """The measure of a call in this process."""

    def once() -> float:
        began = process_time()
        work()
        return process_time() - began

    return once


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; the greatest value of fewer than 100."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def machine() -> str:
    """The date and the machine, which every figure depends on."""
    today = datetime.now(UTC).date().isoformat()
    return f"{today}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first one to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def milliseconds(value: float) -> str:
    return f"{1000 * value:.2f}"
