"""The gateway's functions in one environment. This module alone knows how the gateway is composed."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from batches.admission import Reserving
from batches.bodies import BatchCreate
from batches.cancellation import CancelRequests
from batches.catalog import Catalog
from batches.engine import Engine
from batches.retrieval import Retrieval
from batches.sweep import Sweep
from batches.termination import Termination
from files.creation import Creation, FileRequest
from files.deletion import Deletion
from files.transfers.batch_retry import BatchRetry
from files.transfers.orphans import Orphans
from files.transfers.purge import Purge
from files.transfers.replication import Replication
from files.transfers.result_join import ResultJoin
from files.transfers.results import Results
from manifold import idempotency
from manifold.access import Caller, PresentedKey
from manifold.announcement import announce_end
from manifold.config import Config
from manifold.deployments import Deployments
from manifold.prices import Prices
from manifold.queue import Kind, Message, Queue
from manifold.reading import Reading
from manifold.schemas import Batch, File
from manifold.storage import Storage
from manifold.store import Store

ADMIN = Caller(admin=True)
SECONDS = {"api": 29.0, "control": 60.0, "transfers": 900.0, "execution": 900.0, "poller": 60.0}
"""The timeouts of `template.yaml`."""
VISIBILITY = {"control": 360.0, "transfers": 5400.0, "execution": 5400.0}
"""How long SQS hides a message that failed."""


def function_of(message: Message) -> str | None:
    """The function that reads the message's queue; `None` if it is not under test here."""
    if message.kind in ("batch", "shard"):
        return "control"
    if message.kind == "chunk":
        return "execution"
    return None if message.kind == "webhook" else "transfers"


@dataclass(frozen=True, slots=True)
class Functions:
    """What an environment has; each has a store of its own, with a connection of its own."""

    store: Store
    storage: Storage
    queue: Queue
    deployments: Deployments
    prices: Prices
    config: Config
    run_chunk: Callable[[str], Awaitable[None]]
    """What `batches.executor` does for a message."""

    # Workers and the schedule.

    async def deliver(self, message: Message) -> None:
        """Handle a message, as the worker of its queue does."""
        store, storage, queue, deployments = self.store, self.storage, self.queue, self.deployments
        engine = self._engine()
        workers: dict[Kind, Callable[[str], Awaitable[None]]] = {
            "batch": engine.advance,
            "shard": engine.advance_shard,
            "input": Replication(store, storage, queue, deployments).run,
            "job": Results(store, storage, queue, deployments, self.prices).run,
            "join": ResultJoin(store, storage, queue).run,
            "retry": BatchRetry(store, storage, queue).run,
            "file": Purge(store, storage, deployments).run,
            "deployment": Orphans(store, deployments).run,
            "chunk": self.run_chunk,
        }
        await workers[message.kind](message.id)

    async def run_schedule(self) -> None:
        """What the poller does every minute."""
        await Sweep(self.store, self.queue, self.config.by_id, None).run()
        await self._engine().poll_due(100)

    # Requests.

    async def upload(self, caller: Caller, content: bytes, key: str, expires_after: int | None) -> File:
        request = FileRequest("in.jsonl", "batch", [], expires_after, content)
        attempt = idempotency.attempt(caller, "POST /files", request.identity(), {"idempotency-key": key})
        return await Creation(self.store, self.storage, self.queue, self.deployments, caller).create(request, attempt)

    async def create(self, caller: Caller, file_id: str, endpoint: str, key: str) -> Batch:
        members = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {"request": key},
        }
        body = BatchCreate.model_validate(members)
        content = body.model_dump_json().encode()
        attempt = idempotency.attempt(caller, "POST /batches", content, {"idempotency-key": key})
        return await self._catalog(caller).create(body, attempt)

    async def retrieve(self, caller: Caller, batch_id: str) -> Batch:
        reading = Reading(self.store, PresentedKey(caller.key_id or ""), "sk-master")
        return await Retrieval(self.store, self.queue, reading, self.deployments.get).retrieve(batch_id)

    async def cancel(self, caller: Caller, batch_id: str) -> None:
        await CancelRequests(self.store, self.queue).accept(batch_id, caller)

    async def delete_file(self, caller: Caller, file_id: str) -> None:
        await Deletion(self.store, self.queue, caller).delete(file_id)

    async def end(self, batch_id: str) -> None:
        await Termination(self.store).stop(batch_id, ADMIN)
        await announce_end(self.store, self.queue, batch_id)

    def _catalog(self, caller: Caller) -> Catalog:
        return Catalog(self.store, self.queue, caller, Reserving(self.config, self.prices))

    def _engine(self) -> Engine:
        return Engine(self.store, self.queue, self.deployments, lambda: self.storage)
