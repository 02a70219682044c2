"""`make test-faults`: many runs, by seed, in one process for each processor; `SEED=n` shows one of them."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence

from tests.faults import run as runs
from tests.faults.database import ServerDatabase
from tests.support import postgres

ALL_STEPS = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed of the one run to show")
    parser.add_argument("--first", type=int, default=1, help="the first seed of many")
    parser.add_argument("--runs", type=int, default=1000, help="how many seeds")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="how many processes")
    given = parser.parse_args()
    with postgres.server() as server:
        if given.seed is not None:
            return show(server, given.seed)
        return run_many(server, range(given.first, given.first + given.runs), given.workers)


def show(server: str, seed: int) -> int:
    """One run, with all its steps."""
    with ServerDatabase.create(server) as database:
        try:
            print(runs.run(database, seed, steps=ALL_STEPS).trace.text(ALL_STEPS))
        except runs.Broken as error:
            print(error)
            return 1
    return 0


def run_many(server: str, seeds: Sequence[int], workers: int) -> int:
    """All these runs; those that fail are told as they come."""
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    outcomes = context.SimpleQueue()
    shares = [seeds[number::workers] for number in range(workers)]
    processes = [context.Process(target=_run_share, args=(server, share, outcomes)) for share in shares]
    for process in processes:
        process.start()
    failed = []
    for _ in seeds:
        seed, broken = outcomes.get()
        if broken:
            failed.append(seed)
            print(broken, flush=True)
    for process in processes:
        process.join()
    print(f"{len(seeds)} runs in {time.perf_counter() - began:.0f} s; {len(failed)} failed: {sorted(failed)}")
    return 1 if failed else 0


def _run_share(server: str, seeds: Sequence[int], outcomes: "multiprocessing.SimpleQueue[tuple[int, str]]") -> None:
    """The runs of one process, on a database of its own."""
    with ServerDatabase.create(server) as database:
        for seed in seeds:
            try:
                runs.run(database, seed)
            except Exception as error:
                outcomes.put((seed, str(error) or repr(error)))
            else:
                outcomes.put((seed, ""))


if __name__ == "__main__":
    sys.exit(main())
