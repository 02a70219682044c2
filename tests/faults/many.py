"""Many runs, spread over processes."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.faults.database import ServerDatabase
from tests.faults.run import run

TOGETHER = 25
"""How many runs share a database."""


def run_many(server: str, seeds: Sequence[int], workers: int, dialect: str | None = None) -> int:
    """All these runs; those that fail are told as they come. Returns how many failed."""
    began = time.perf_counter()
    shares = [seeds[start : start + TOGETHER] for start in range(0, len(seeds), TOGETHER)]
    failed = list[int]()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for share in as_completed([pool.submit(_run_share, server, share, dialect) for share in shares]):
            for seed, broken in share.result().items():
                failed.append(seed)
                print(broken, flush=True)
    seconds = time.perf_counter() - began
    print(f"{len(seeds)} runs in {seconds:.0f} s; {len(failed)} failed: {sorted(failed)}")
    return len(failed)


def _run_share(server: str, seeds: Sequence[int], dialect: str | None) -> dict[int, str]:
    """What broke, by the seed."""
    broken = {}
    with ServerDatabase.create(server) as database:
        for seed in seeds:
            try:
                run(database, seed, dialect=dialect)
            except AssertionError as error:
                broken[seed] = str(error)
    return broken
