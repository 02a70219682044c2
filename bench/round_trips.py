"""How many round trips to Postgres a request takes: its time with a network's delay before Postgres, and without.

    python -m bench.round_trips [--requests N] [--milliseconds 1]

The handlers are called as by `bench.handlers`, through a proxy on this machine that delays nothing, and then through
one that delays each round trip. What a request then takes longer, divided by what `SELECT 1` does, is how many it
makes.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING

from bench.events import event
from bench.handlers import WARM_UP, Case, reads
from bench.measure import machine, milliseconds, seconds, table

if TYPE_CHECKING:
    from bench.fixture import Fixture

ONE = "SELECT 1"


def _cases(made: "Fixture") -> Iterator[Case]:
    from completions import app as completions

    yield from reads(made)
    for name, key in (("POST /chat/completions", made.key), ("POST /chat/completions, limited", made.limited_key)):
        request = event("chat.completions.create", {"sk-your-virtual-key": key})
        del request["requestContext"]["requestTimeEpoch"]  # it arrives now
        yield Case(name, completions.handler, request)


def _measured(requests: int, delay: float) -> dict[str, float]:
    """The median seconds of each case, in a process of its own, as the functions connect to one database alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_measure, requests, delay).result()


def _measure(requests: int, delay: float) -> dict[str, float]:
    """The functions write their logs, as in Lambda; they are thrown away."""
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "bench")  # metrics need one
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        from bench.fixture import fixture
        from manifold.invocation import run

        with fixture(delay=delay) as made:

            async def select() -> None:
                async with made.store.session() as tables:
                    await tables.connection.execute("SELECT 1")

            took = {ONE: median(seconds(lambda: run(select())) for _ in range(requests))}
            for case in _cases(made):
                for _ in range(WARM_UP):
                    _once(case)
                took[case.name] = median(_once(case) for _ in range(requests))
    return took


def _once(case: Case) -> float:
    """The seconds of a call. Raises `RuntimeError` at an answer that is not the case's."""
    case.before()
    answers: list[object] = []
    took = seconds(lambda: answers.append(case.call()))
    if answers != [case.answers]:
        raise RuntimeError(f"{case.name} answered {answers}, not {case.answers}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.round_trips", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--milliseconds", type=float, default=1.0, help="the delay of a round trip")
    given = parser.parse_args()
    print(f"Each handler {given.requests} times, through a proxy before Postgres. {machine()}.\n", flush=True)
    at_once, delayed = (_measured(given.requests, delay) for delay in (0.0, given.milliseconds / 1000))
    trip = delayed[ONE] - at_once[ONE]
    rows = [
        (
            name,
            *map(milliseconds, (at_once[name], delayed[name], delayed[name] - at_once[name])),
            f"{(delayed[name] - at_once[name]) / trip:.2f}",
        )
        for name in at_once
    ]
    print(table(("", "ms", f"ms, with {given.milliseconds:g} of delay", "more", "round trips"), rows))


if __name__ == "__main__":
    main()
