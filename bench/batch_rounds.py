"""A process of `bench.batches`: runs batches through the handlers of one checkout, and measures each step.

For each line on standard input it runs one batch, and prints its steps as JSON: an array of `Step`. The variables name
the configuration, the database and the provider, a `bench.instant_batches`.
"""

import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import Any

import httpx
import psycopg

from admin import app as admin
from batches import app as batches
from batches import worker as control
from bench.events import CONTEXT, event
from bench.in_memory import InMemoryQueue, InMemoryStorage
from bench.measure import seconds
from files import app as files
from files.transfers import worker as transfers
from manifold import observe
from manifold.config import Environment
from manifold.gateway import Gateway
from manifold.invocation import run
from manifold.queue import Message
from manifold.store import migrations

GROUP = "gpt-4o-batch"
MASTER_KEY = "sk-master-of-the-bench"
PROVIDER_KEY = "sk-of-the-bench"
BOUNDARY = "c9d1f0a7b35e4d28"
"""Of the form in `events/files.create.json`."""
UPLOAD, SUBMIT, READ = "upload → at the provider", "create → submitted", "ended → output is read"
STEPS = (UPLOAD, SUBMIT, READ)
GATEWAYS: tuple[Gateway, ...] = (
    admin.app.state.gateway,
    batches.app.state.gateway,
    files.app.state.gateway,
    control.gateway,
    transfers.gateway,
)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of one batch took. `bare` is the seconds of the provider's calls alone, without the gateway."""

    name: str
    bare: float
    seconds: float
    processor: float
    statements: int
    messages: int
    storage: int
    calls: int


class Rounds:
    """Runs batches of one file of so many lines, each by the handlers, with messages delivered at once and in order."""

    def __init__(self, environment: Environment, provider_url: str, lines: int) -> None:
        self._queue, self._storage = InMemoryQueue(), InMemoryStorage()
        for gateway in GATEWAYS:
            gateway.environment, gateway.queue, gateway.storage = environment, self._queue, self._storage
            gateway.transfer_storage = self._storage
        run(_migrate())
        self._lines = b"".join(map(_line, range(lines)))
        self._provider = httpx.Client(base_url=provider_url, headers={"Authorization": f"Bearer {PROVIDER_KEY}"})
        self._statements = _Statements()
        self._steps: list[Step] = []
        self._key = self._answer(admin.handler, "key.generate", {"sk-your-master-key": MASTER_KEY})["key"]

    def next(self) -> list[Step]:
        """Run the bare calls and one batch."""
        self._steps = []
        bare = Bare(self._provider, self._lines)
        with self._step(UPLOAD, bare.upload):
            file_id = self._create_file()
            self._deliver()
        with self._step(SUBMIT, bare.create):
            batch_id = self._answer(batches.handler, "batches.create", {"file-YourFile": file_id})["id"]
            self._deliver()
        self._wake(batch_id)
        with self._step(READ, bare.read):
            self._deliver()
            output = self._retrieve(batch_id)["output_file_id"]
            answer = files.handler(self._event("files.content", {"file-YourFile": output}), CONTEXT)
        if answer["statusCode"] != 200:
            raise RuntimeError(f"the output of {batch_id}: {answer}")
        return self._steps

    @contextmanager
    def _step(self, name: str, bare: Callable[[], object]) -> Iterator[None]:
        alone = seconds(bare)
        before = self._counts()
        began, computed = perf_counter(), process_time()
        yield
        took, processor = perf_counter() - began, process_time() - computed
        counts = (after - earlier for after, earlier in zip(self._counts(), before, strict=True))
        self._steps.append(Step(name, alone, took, processor, *counts))

    def _counts(self) -> tuple[int, ...]:
        calls = self._provider.get("/calls").json()["calls"]
        return self._statements.sent, self._queue.sent, self._storage.calls, calls

    def _create_file(self) -> str:
        request = self._event("files.create", {})
        request["body"] = b64encode(_form(self._lines)).decode()
        answer = files.handler(request, CONTEXT)
        if answer["statusCode"] != 200:
            raise RuntimeError(f"POST /files: {answer}")
        file_id: str = json.loads(answer["body"])["id"]
        return file_id

    def _wake(self, batch_id: str) -> None:
        """Have the batch polled now, as a `GET` does whose last poll is long ago."""
        status = self._retrieve(batch_id)["status"]
        if status != "in_progress":
            raise RuntimeError(f"{batch_id} is {status}")
        with psycopg.connect(GATEWAYS[0].environment.values["DATABASE_URL"], autocommit=True) as connection:
            connection.execute("UPDATE jobs SET submitted_at = now() - interval '1 minute' WHERE state = 'running'")
        self._retrieve(batch_id)

    def _retrieve(self, batch_id: str) -> Any:
        return self._answer(batches.handler, "batches.retrieve", {"batch_YourBatch": batch_id})

    def _answer(self, handler: Callable[[Any, Any], Any], name: str, names: dict[str, str]) -> Any:
        answer = handler(self._event(name, names), CONTEXT)
        if answer["statusCode"] != 200:
            raise RuntimeError(f"{name}: {answer}")
        return json.loads(answer["body"])

    def _event(self, name: str, names: dict[str, str]) -> dict[str, Any]:
        return event(name, {"sk-your-virtual-key": getattr(self, "_key", ""), **names})

    def _deliver(self) -> None:
        """Deliver the messages without a delay, and those that are sent meanwhile."""
        while messages := self._queue.take_due():
            for message in messages:
                handler = transfers.handler if message.kind in transfers.transfers() else control.handler
                answer = handler(_sqs_event(message), CONTEXT)
                if answer["batchItemFailures"]:
                    raise RuntimeError(f"{message} failed")


class Bare:
    """The same batch by the provider's calls alone."""

    def __init__(self, provider: httpx.Client, lines: bytes) -> None:
        self._provider = provider
        self._lines = lines
        self._file_id = self._batch_id = ""

    def upload(self) -> None:
        form: Any = {"files": {"file": ("in.jsonl", self._lines)}, "data": {"purpose": "batch"}}
        self._file_id = self._provider.post("/v1/files", **form).json()["id"]

    def create(self) -> None:
        body = {"input_file_id": self._file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        self._batch_id = self._provider.post("/v1/batches", json=body).json()["id"]

    def read(self) -> None:
        output = self._provider.get(f"/v1/batches/{self._batch_id}").json()["output_file_id"]
        self._provider.get(f"/v1/files/{output}/content").raise_for_status()


class _Statements:
    """Counts what is sent to Postgres: statements, and the BEGIN and COMMIT of each transaction."""

    def __init__(self) -> None:
        self.sent = 0
        execute, enter = psycopg.AsyncCursor.execute, psycopg.AsyncTransaction.__aenter__

        async def counted(cursor: Any, *arguments: Any, **named: Any) -> Any:
            self.sent += 1
            return await execute(cursor, *arguments, **named)

        async def entered(transaction: Any) -> Any:
            self.sent += 2
            return await enter(transaction)

        psycopg.AsyncCursor.execute = counted  # type: ignore[method-assign,assignment]
        psycopg.AsyncTransaction.__aenter__ = entered  # type: ignore[method-assign,assignment]


def _line(number: int) -> bytes:
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hello!"}]
    body = {"model": GROUP, "messages": messages, "max_tokens": 1000}
    request = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


def _form(lines: bytes) -> bytes:
    purpose = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
    return (purpose + file).encode() + lines + f"\r\n--{BOUNDARY}--\r\n".encode()


def _sqs_event(message: Message) -> dict[str, Any]:
    sent = event("control.batch")
    sent["Records"][0]["body"] = message.dump()
    return sent


async def _migrate() -> None:
    async with GATEWAYS[0].store.session() as tables:
        await migrations.apply(tables.connection)


def main() -> None:
    observe.logger.setLevel("CRITICAL")
    answers = sys.stdout
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        rounds = Rounds(Environment(dict(os.environ)), os.environ["PROVIDER_URL"], int(os.environ["LINES"]))
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps([asdict(step) for step in rounds.next()]), file=answers, flush=True)


if __name__ == "__main__":
    main()
