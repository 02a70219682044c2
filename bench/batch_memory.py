"""The memory of the way of a large batch to each dialect and back, with its translation.

    python -m bench.batch_memory [--lines N] [--characters N] [--dialects NAME …]

For each dialect a process of its own runs a batch of a few lines, then one of 50,000, or of as many as the provider
takes, with some 4 KB each. It streams as the workers do. `tests/integration/test_batch_dialects_memory.py` runs the
same with short lines.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bench import PATHS, ROOT
from bench.measure import machine, table
from bench.memory import GOAL, MIB
from local.provider import Simulator, serve
from tests.support.batch_dialects import BATCH_DIALECTS, BatchDialect

FEW = 10
CHAT = "/v1/chat/completions"


def row(simulator: Simulator, dialect: BatchDialect, lines: int, characters: int) -> tuple[str, int, int, int]:
    """The dialect, its lines, and its process's peaks in bytes: with a few lines, and with all."""
    counts = (max(FEW, dialect.minimum), min(lines, dialect.maximum))
    endpoint = json.dumps(asdict(dialect.endpoint(simulator, 60.0)))
    command = [sys.executable, "-m", "tests.support.batch_dialect_process", dialect.provider, endpoint]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, str(ROOT)])}
    ran = subprocess.run(
        [*command, str(characters), *map(str, counts)], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    (_, before), (answers, after) = [map(int, line.split()) for line in ran.stdout.splitlines()]
    if answers != counts[1]:
        raise AssertionError(f"{dialect.name}: {answers} of {counts[1]} requests were answered")
    return dialect.name, counts[1], before, after


def report(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """MiB of each process."""
    header = ("", "lines", "MiB before", "MiB at most", f"more (goal: {GOAL // MIB})")
    return table(
        header,
        [
            (name, f"{lines:,}", *(f"{value / MIB:.0f}" for value in (before, after, after - before)))
            for name, lines, before, after in rows
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.batch_memory", description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--characters", type=int, default=3_800, help="of the prompt in each line")
    parser.add_argument("--dialects", nargs="*", help="the names of some dialects; by default all")
    args = parser.parse_args()
    print(machine())
    rows = []
    for dialect in BATCH_DIALECTS:
        if dialect.route == CHAT and (not args.dialects or dialect.name in args.dialects):
            with serve() as simulator:
                rows.append(row(simulator, dialect, args.lines, args.characters))
            print(*rows[-1], file=sys.stderr, flush=True)
    print(report(rows))
    return int(max(after - before for _, _, before, after in rows) > GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
