"""The time of a request in each handler, compared with a bare FastAPI + Mangum route that is called in turn with it.

    python -m bench.handlers [--requests N] [--tuned]

The handlers are those of the template, called in this process with the events of `events/`, warm, on a real Postgres
(embedded, or `DATABASE_URL`'s). `bench.fixture` says what is real and what is faked.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from mangum import Mangum

from bench.events import CONTEXT, event
from bench.measure import Comparison, machine, milliseconds, p99, seconds, table

if TYPE_CHECKING:
    from bench.fixture import Fixture
    from manifold.store import Store

WARM_UP = 5
GOAL = 3.0
"""A retrieve may take this many times as long as a bare route."""
Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A call, its answer (a status, or a whole answer), and what is prepared before each call, untimed."""

    name: str
    handler: Handler
    event: dict[str, Any]
    answers: object = 200
    before: Callable[[], None] = lambda: None

    def call(self) -> object:
        """The answer's status if it has one, else the whole answer."""
        answer = self.handler(self.event, CONTEXT)
        return answer.get("statusCode", answer)


def bare() -> Handler:
    """The least that a route can be: no key, no store, a small JSON answer."""
    app = FastAPI(openapi_url=None)

    @app.get("/batches/{batch_id}")
    async def retrieve(batch_id: str) -> dict[str, str]:
        return {"id": batch_id, "object": "batch"}

    return Mangum(app, lifespan="off")


def bare_with_queries(store: "Store") -> Handler:
    """A bare route with two queries of Postgres: the least that reading a key and a row takes on this machine."""
    app = FastAPI(openapi_url=None)

    @app.get("/batches/{batch_id}")
    async def retrieve(batch_id: str) -> dict[str, str]:
        async with store.session() as tables:
            await tables.connection.execute("SELECT 1")
            await tables.connection.execute("SELECT 1")
        return {"id": batch_id, "object": "batch"}

    return Mangum(app, lifespan="off")


def cases(fixture: "Fixture") -> Iterator[Case]:
    """All cases; those that add rows come last."""
    yield Case("(bare route + 2 SELECT 1)", bare_with_queries(fixture.store), fixture.event("batches.retrieve"))
    yield from reads(fixture)
    yield from _background(fixture)
    yield from _creates(fixture)


def reads(fixture: "Fixture") -> Iterator[Case]:
    """Those that change nothing."""
    from admin import app as admin
    from batches import app as batches
    from files import app as files

    running = fixture.running[0]
    yield Case(
        "GET /batches/{id}, ended", batches.handler, fixture.event("batches.retrieve", batch_YourBatch=fixture.ended)
    )
    yield Case(
        "GET /batches/{id}, running",
        batches.handler,
        fixture.event("batches.retrieve", batch_YourBatch=running),
        before=lambda: fixture.sql("UPDATE jobs SET polled_at = now() WHERE batch_id = %s", running),
    )
    yield Case("GET /batches, 10", batches.handler, fixture.event("batches.list"))
    yield Case("GET /files/{id}", files.handler, fixture.event("files.retrieve"))
    yield Case("GET /files, 20", files.handler, fixture.event("files.list"))
    yield Case("GET /files/{id}/content", files.handler, fixture.event("files.content"))
    yield Case("GET /models", admin.handler, fixture.event("models.list"))
    yield Case("GET /key/info", admin.handler, fixture.event("key.info"))
    unknown = event("batches.retrieve", {"sk-your-virtual-key": "sk-that-nobody-has"})
    yield Case("GET /batches/{id}, unknown key", batches.handler, unknown, 401)


def _background(fixture: "Fixture") -> Iterator[Case]:
    from batches import poller
    from batches import worker as control
    from files.transfers import worker as transfers

    done: dict[str, list[str]] = {"batchItemFailures": []}
    first = fixture.inputs[0]
    yield Case(
        "control: an ended batch", control.handler, fixture.event("control.batch", batch_YourBatch=fixture.ended), done
    )
    transfer = fixture.event("transfers.input", input_YourInput=first)
    yield Case("transfers: a ready input", transfers.handler, transfer, done)
    yield Case(
        "transfers: 2 lines to a provider",
        transfers.handler,
        transfer,
        done,
        lambda: fixture.sql("UPDATE inputs SET state = 'pending', attempts = 0, due_at = now() WHERE id = %s", first),
    )
    yield Case(
        "poller: nothing due",
        poller.handler,
        fixture.event("schedule"),
        {"polled": 0, "resent": 0},
        lambda: fixture.sql("UPDATE shards SET due_at = now() + interval '1 hour' WHERE due_at IS NOT NULL"),
    )
    yield Case(
        f"poller: {len(fixture.running)} running jobs",
        poller.handler,
        fixture.event("schedule"),
        {"polled": len(fixture.running), "resent": 0},
        lambda: fixture.sql("UPDATE shards SET due_at = now() WHERE due_at IS NOT NULL"),
    )


def _creates(fixture: "Fixture") -> Iterator[Case]:
    from batches import app as batches
    from files import app as files

    yield Case("POST /batches", batches.handler, fixture.event("batches.create"))
    yield Case("POST /files, 2 lines", files.handler, fixture.event("files.create"))


def measure(case: Case, baseline: Callable[[], object], requests: int) -> Comparison:
    """Call the case and the bare route in turn. Raises `RuntimeError` at an answer that is not the case's."""
    for _ in range(WARM_UP):
        case.before()
        baseline()
        if (answer := case.call()) != case.answers:
            raise RuntimeError(f"{case.name} answered {answer}, not {case.answers}")
    took: list[tuple[float, float]] = []
    for _ in range(requests):
        case.before()
        took.append((seconds(baseline), seconds(case.call)))
    return Comparison(case.name, [one for _, one in took], [one for one, _ in took])


def report(requests: int, *, tuned: bool) -> str:
    """Measure every case. The functions write their logs, as in Lambda; they are thrown away."""
    from bench.fixture import fixture

    print("starting Postgres and a simulated provider, making a key, a file and batches …", file=sys.stderr, flush=True)
    with fixture(tuned=tuned) as made:
        route = bare()
        request = made.event("batches.retrieve", batch_YourBatch=made.ended)
        comparisons = []
        for case in cases(made):
            print(f"calling {case.name} …", file=sys.stderr, flush=True)
            comparisons.append(measure(case, lambda: route(request, CONTEXT), requests))
    return _table(comparisons)


def _table(comparisons: Sequence[Comparison]) -> str:
    rows = [
        (
            one.name,
            *map(milliseconds, (median(one.seconds), p99(one.seconds), median(one.baseline))),
            f"{one.ratio:.2f}",
        )
        for one in comparisons
    ]
    return table(("handler", "median ms", "p99 ms", "bare ms", "ratio"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.handlers", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tuned", action="store_true", help="with prepared statements")
    args = parser.parse_args()
    print(
        f"Each handler {args.requests} times, warm, in turn with a bare FastAPI + Mangum route. Postgres is real; the"
    )
    print(
        f"provider is simulated, over HTTP; S3 and SQS are in memory. Goal: a retrieve within {GOAL:.0f} bare routes."
    )
    print(f"{machine()}, {'tuned' if args.tuned else 'as deployed by default'}.\n", flush=True)
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "bench")  # metrics need one
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        measured = report(args.requests, tuned=args.tuned)
    print(measured)


if __name__ == "__main__":
    main()
