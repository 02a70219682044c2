"""What a request costs in each handler, against a bare FastAPI + Mangum route that is called in turn with it.

    python -m bench.handlers [--requests N] [--tuned]

The handlers are those of the template, called in this process with the events of `events/`, warm, on a real Postgres
(embedded, or `DATABASE_URL`'s). `bench.stage` says what is real and what is stood in for.
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
    from bench.stage import Stage
    from manifold.store import Store

WARM_UP = 5
GOAL = 3.0
"""How many bare routes a retrieve may cost."""
Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A call, what it must answer (a status, or a whole answer), and what is arranged before each one, untimed."""

    name: str
    handler: Handler
    event: dict[str, Any]
    answers: object = 200
    before: Callable[[], None] = lambda: None

    def call(self) -> object:
        """The answer, cut to what `answers` says."""
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
    """A bare route that asks Postgres twice for nothing: what a key and a row cost at least, on this machine."""
    app = FastAPI(openapi_url=None)

    @app.get("/batches/{batch_id}")
    async def retrieve(batch_id: str) -> dict[str, str]:
        async with store.session() as tables:
            await tables.connection.execute("SELECT 1")
            await tables.connection.execute("SELECT 1")
        return {"id": batch_id, "object": "batch"}

    return Mangum(app, lifespan="off")


def cases(stage: "Stage") -> Iterator[Case]:
    """All that is measured; what adds rows comes last."""
    yield Case("(bare route + 2 SELECT 1)", bare_with_queries(stage.store), stage.event("batches.retrieve"))
    yield from _reads(stage)
    yield from _background(stage)
    yield from _creates(stage)


def _reads(stage: "Stage") -> Iterator[Case]:
    from admin import app as admin
    from batches import app as batches
    from files import app as files

    running = stage.running[0]
    yield Case(
        "GET /batches/{id}, ended", batches.handler, stage.event("batches.retrieve", batch_YourBatch=stage.ended)
    )
    yield Case(
        "GET /batches/{id}, running",
        batches.handler,
        stage.event("batches.retrieve", batch_YourBatch=running),
        before=lambda: stage.sql("UPDATE jobs SET polled_at = now() WHERE batch_id = %s", running),
    )
    yield Case("GET /batches, 10", batches.handler, stage.event("batches.list"))
    yield Case("GET /files/{id}", files.handler, stage.event("files.retrieve"))
    yield Case("GET /files, 20", files.handler, stage.event("files.list"))
    yield Case("GET /files/{id}/content", files.handler, stage.event("files.content"))
    yield Case("GET /models", admin.handler, stage.event("models.list"))
    yield Case("GET /key/info", admin.handler, stage.event("key.info"))
    unknown = event("batches.retrieve", {"sk-your-virtual-key": "sk-that-nobody-has"})
    yield Case("GET /batches/{id}, unknown key", batches.handler, unknown, 401)


def _background(stage: "Stage") -> Iterator[Case]:
    from batches import poller
    from batches import worker as control
    from files.transfers import worker as transfers

    done: dict[str, list[str]] = {"batchItemFailures": []}
    first = stage.inputs[0]
    yield Case(
        "control: an ended batch", control.handler, stage.event("control.batch", batch_YourBatch=stage.ended), done
    )
    transfer = stage.event("transfers.input", input_YourInput=first)
    yield Case("transfers: a ready input", transfers.handler, transfer, done)
    yield Case(
        "transfers: 2 lines to a provider",
        transfers.handler,
        transfer,
        done,
        lambda: stage.sql("UPDATE inputs SET state = 'pending', attempts = 0, due_at = now() WHERE id = %s", first),
    )
    yield Case(
        "poller: nothing due",
        poller.handler,
        stage.event("schedule"),
        {"polled": 0, "resent": 0},
        lambda: stage.sql("UPDATE batches SET due_at = now() + interval '1 hour' WHERE due_at IS NOT NULL"),
    )
    yield Case(
        f"poller: {len(stage.running)} running jobs",
        poller.handler,
        stage.event("schedule"),
        {"polled": len(stage.running), "resent": 0},
        lambda: stage.sql("UPDATE batches SET due_at = now() WHERE due_at IS NOT NULL"),
    )


def _creates(stage: "Stage") -> Iterator[Case]:
    from batches import app as batches
    from files import app as files

    yield Case("POST /batches", batches.handler, stage.event("batches.create"))
    yield Case("POST /files, 2 lines", files.handler, stage.event("files.create"))


def measure(case: Case, baseline: Callable[[], object], requests: int) -> Comparison:
    """The case and the bare route, called in turn; an answer that is not the case's own ends the bench."""
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
    """Measure every case. What the functions log on the way is written, as in Lambda, and goes nowhere."""
    from bench.stage import stage

    print("starting Postgres and a simulated provider, making a key, a file and batches …", file=sys.stderr, flush=True)
    with stage(tuned=tuned) as made:
        route = bare()
        request = made.event("batches.retrieve", batch_YourBatch=made.ended)
        found = []
        for case in cases(made):
            print(f"calling {case.name} …", file=sys.stderr, flush=True)
            found.append(measure(case, lambda: route(request, CONTEXT), requests))
    return _table(found)


def _table(found: Sequence[Comparison]) -> str:
    rows = [
        (
            one.name,
            *map(milliseconds, (median(one.seconds), p99(one.seconds), median(one.baseline))),
            f"{one.ratio:.2f}",
        )
        for one in found
    ]
    return table(("handler", "median ms", "p99 ms", "bare ms", "ratio"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.handlers", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tuned", action="store_true", help="with prepared statements and keys remembered")
    given = parser.parse_args()
    print(
        f"Each handler {given.requests} times, warm, in turn with a bare FastAPI + Mangum route. Postgres is real; the"
    )
    print(
        f"provider is simulated, over HTTP; S3 and SQS are in memory. Goal: a retrieve within {GOAL:.0f} bare routes."
    )
    print(f"{machine()}, {'tuned' if given.tuned else 'as deployed by default'}.\n", flush=True)
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "bench")  # metrics need one
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        measured = report(given.requests, tuned=given.tuned)
    print(measured)


if __name__ == "__main__":
    main()
