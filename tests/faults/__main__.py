"""`make test-faults`: many runs, by seed, in one process for each processor; `SEED=n` shows one of them."""

import argparse
import os
import sys

from tests.faults.database import ServerDatabase
from tests.faults.dialects import NAMES
from tests.faults.many import run_many
from tests.faults.run import Broken, run
from tests.support import postgres

ALL_STEPS = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed of the one run to show")
    parser.add_argument("--first", type=int, default=1, help="the first seed of many")
    parser.add_argument("--runs", type=int, default=1000, help="how many seeds")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="how many processes")
    parser.add_argument("--dialect", choices=sorted(NAMES), help="the dialect of all providers; by default, none")
    given = parser.parse_args()
    with postgres.server() as server:
        if given.seed is not None:
            return show(server, given.seed, given.dialect)
        seeds = range(given.first, given.first + given.runs)
        return 1 if run_many(server, seeds, given.workers, given.dialect) else 0


def show(server: str, seed: int, dialect: str | None) -> int:
    """One run, with all its steps."""
    with ServerDatabase.create(server) as database:
        try:
            print(run(database, seed, steps=ALL_STEPS, dialect=dialect).trace.text(ALL_STEPS))
        except Broken as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
