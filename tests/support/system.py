"""The system under test: every function in one process, on Postgres, moto's S3 and the simulated provider.

Messages wait in an `InMemoryQueue`. A test delivers them or runs the schedule. `age` lets time pass: it moves every
time in the database back. `CrashPoints` can kill a worker before or after any of its steps: what was committed, sent
and stored until then stays, and nothing more happens.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import psycopg
from psycopg import sql

from batches.app import create as create_batches_app
from batches.engine import Engine
from batches.execution.chunk_execution import WORK_SECONDS, ChunkExecution
from batches.sweep import Sweep
from files.app import create as create_files_app
from files.transfers.batch_retry import BatchRetry
from files.transfers.joining import Joining
from files.transfers.orphans import Orphans
from files.transfers.purge import Purge
from files.transfers.replication import Replication
from files.transfers.result_join import ResultJoin
from files.transfers.results import Results
from local.provider import Simulator
from local.provider.batch import Batch
from local.provider.pace import Pace
from manifold.config import Deployment
from manifold.deployments import CALL_SECONDS, Deployments
from manifold.dispatch.dispatcher import Dispatcher
from manifold.gateway import Gateway
from manifold.providers import BatchProvider, Endpoint
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.registry import batch_provider_for, completion_provider_for
from manifold.queue import Kind, Message, Queue
from manifold.schemas import Batch as BatchObject
from manifold.schemas import File
from manifold.signed_event import SignedEvent
from manifold.storage import Storage
from manifold.store import Store, Tables
from manifold.webhook_client import Answer as EndpointAnswer
from manifold.webhook_client import WebhookClient
from tests.support import gateways, postgres
from tests.support.aws import Aws
from webhooks.app import create as create_webhooks_app
from webhooks.delivery import DeliveryRun

Answer = TypeVar("Answer")


class Killed(BaseException):
    """The environment of a function is killed in the middle of its work. No `except Exception` catches it."""


@dataclass
class CrashPoints:
    """Counts the steps of workers that have an effect outside, and kills at the one that a test names."""

    kill_at: int | None = None
    piece: int | None = None
    """If set, each read of this many bytes from the storage is a step."""
    reached: list[str] = field(default_factory=list)

    def reach(self, name: str) -> None:
        self.reached.append(name)
        if self.kill_at is not None and len(self.reached) >= self.kill_at:  # later ones are of tasks beside it
            raise Killed(name)

    async def around(self, name: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        self.reach(f"before {name}")
        answer = await work()
        self.reach(f"after {name}")
        return answer


class InMemoryQueue(Queue):
    """A queue in memory. `tests/integration/test_queue.py` holds the real one to SQS."""

    def __init__(self, crash_points: CrashPoints) -> None:
        self.messages: list[Message] = []
        self._crash_points = crash_points

    async def send(self, messages: Sequence[Message], *, delay: float = 0) -> list[Message]:
        async def put() -> list[Message]:
            self.messages.extend(messages)
            return []

        return await self._crash_points.around(f"send {messages[0].kind}", put)


class CrashingStore(Store):
    """A store of which each unit of work is a step."""

    def __init__(self, url: str, crash_points: CrashPoints) -> None:
        super().__init__(lambda: url)
        self._crash_points = crash_points

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Tables]:
        self._crash_points.reach("before session")
        async with super().session() as tables:
            yield tables
        self._crash_points.reach("after session")

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[Tables]:
        self._crash_points.reach("before transaction")
        async with super().transaction(seconds) as tables:
            yield tables
            self._crash_points.reach("before commit")
        self._crash_points.reach("after commit")


class CrashingDeployments(Deployments):
    """Deployments of which each call of a provider is a step."""

    def __init__(self, gateway: Gateway, crash_points: CrashPoints) -> None:
        super().__init__(
            gateway.config, gateway.secrets, batch_provider_for, completion_provider_for, lambda: gateway.own_execution
        )
        self._crash_points = crash_points

    async def call(
        self,
        deployment: Deployment,
        request: Callable[[BatchProvider, Endpoint], Awaitable[Answer]],
        *,
        seconds: float | None = CALL_SECONDS,
    ) -> Answer:
        work = super().call
        return await self._crash_points.around("provider call", lambda: work(deployment, request, seconds=seconds))

    async def complete(self, deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
        work = super().complete
        return await self._crash_points.around("completion", lambda: work(deployment, request))


class CrashingStorage(Storage):
    """Storage of which each write and delete is a step, and each read of `piece` bytes, if that is set."""

    def __init__(self, bucket: str, crash_points: CrashPoints) -> None:
        super().__init__(bucket)
        self._crash_points = crash_points

    async def read(self, key: str) -> AsyncIterator[bytes]:
        async for chunk in super().read(key):
            size = self._crash_points.piece or len(chunk)
            for start in range(0, len(chunk), size):
                yield chunk[start : start + size]
                if self._crash_points.piece:
                    self._crash_points.reach("read")

    async def put(self, key: str, body: bytes) -> None:
        work = super().put
        await self._crash_points.around("put", lambda: work(key, body))

    async def delete(self, key: str) -> None:
        work = super().delete
        await self._crash_points.around("delete", lambda: work(key))

    async def clear(self, prefix: str) -> None:
        work = super().clear
        await self._crash_points.around("clear", lambda: work(prefix))


class CrashingWebhookClient(WebhookClient):
    """A client of endpoints of which each post is a step. It may call endpoints on this machine."""

    def __init__(self, crash_points: CrashPoints) -> None:
        super().__init__(private=True)
        self._crash_points = crash_points

    async def post(self, url: str, secret: str, event: SignedEvent) -> EndpointAnswer:
        work = super().post
        return await self._crash_points.around("post", lambda: work(url, secret, event))


ENDED = ("completed", "failed", "expired", "cancelled")
FAST_PACE = Pace().faster(1000)
"""The pace of providers that take no time."""
ACCOUNTS = ("azure-general", "azure-special", "openai")


class System:
    """The functions on one database, and the clients that call them."""

    def __init__(self, database_url: str, provider: Simulator, aws: Aws, config: str = "") -> None:
        self.provider = provider
        self.crash_points = CrashPoints()
        self.queue = InMemoryQueue(self.crash_points)
        self._database_url = database_url
        self._aws = aws
        self.killed_at = ""
        self._variables = _variables(provider) | aws.environment | ({"MANIFOLD_CONFIG": config} if config else {})
        self._start()

    def _start(self) -> None:
        gateway = gateways.gateway(self._database_url, self._variables)
        gateway.store = CrashingStore(self._database_url, self.crash_points)
        gateway.queue = self.queue
        gateway.storage = gateway.transfer_storage = CrashingStorage(gateway.environment.bucket, self.crash_points)
        gateway.deployments = CrashingDeployments(gateway, self.crash_points)
        gateway.webhook_client = CrashingWebhookClient(self.crash_points)
        self.gateway = gateway
        self._files_app = create_files_app(gateway)
        self._batches_app = create_batches_app(gateway)
        self._webhooks_app = create_webhooks_app(gateway)

    async def restart(self) -> None:
        """Start new environments, as Lambda does after a crash. Messages and rows stay."""
        await self.gateway.store.close()
        self.killed_at = self.crash_points.reached[-1]
        self.crash_points.kill_at = None
        self._start()

    async def reset(self) -> None:
        """Empty everything: no row, no message, no object, nothing at the providers."""
        await self.gateway.store.close()
        postgres.empty(self._database_url)
        self._aws.empty()
        self.provider.reset()
        self.provider.state.batches.pace = FAST_PACE
        self.queue.messages.clear()
        self._start()

    async def close(self) -> None:
        await self.gateway.store.close()

    # Clients.

    async def upload(self, content: bytes, headers: dict[str, str] | None = None, **fields: str) -> File:
        """`POST /files` as a batch's input."""
        form = {"purpose": "batch"} | fields
        async with gateways.client(self._files_app) as client:
            answer = await client.post("/files", files={"file": ("in.jsonl", content)}, data=form, headers=headers)
        return File.model_validate(_body(answer))

    async def create(self, file_id: str, **fields: Any) -> BatchObject:
        """`POST /batches`."""
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | fields
        return BatchObject.model_validate(await self.call("POST", "/batches", json=body))

    async def retrieve(self, batch_id: str) -> BatchObject:
        return BatchObject.model_validate(await self.call("GET", f"/batches/{batch_id}"))

    async def cancel(self, batch_id: str) -> BatchObject:
        return BatchObject.model_validate(await self.call("POST", f"/batches/{batch_id}/cancel"))

    async def call_files(self, method: str, path: str, **more: Any) -> Any:
        """A request to `/files` or `/uploads`; an answer that is no success fails the test."""
        async with gateways.client(self._files_app) as client:
            return _body(await client.request(method, path, **more))

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """A request to `/batches`; an answer that is no success fails the test."""
        async with gateways.client(self._batches_app) as client:
            return _body(await client.request(method, path, **more))

    async def call_webhooks(self, method: str, path: str, **more: Any) -> Any:
        """A request to `/webhooks`; an answer that is no success fails the test."""
        async with gateways.client(self._webhooks_app) as client:
            return _body(await client.request(method, path, **more))

    # Workers and the schedule.

    async def deliver(self, message: Message) -> None:
        """Let a worker handle this message."""
        await self._workers()[message.kind](message.id)

    def _workers(self) -> dict[Kind, Callable[[str], Awaitable[None]]]:
        gateway = self.gateway
        store, deployments = gateway.store, gateway.deployments
        parts = (store, gateway.storage, gateway.queue, deployments)
        return {
            "batch": self.engine().advance,
            "shard": self.engine().advance_shard,
            "input": Replication(*parts).run,
            "job": Results(*parts, gateway.prices).run,
            "join": ResultJoin(store, gateway.storage, gateway.queue).run,
            "retry": BatchRetry(store, gateway.storage, gateway.queue).run,
            "file": Purge(store, gateway.storage, deployments).run,
            "deployment": Orphans(store, deployments).run,
            "upload": Joining(store, gateway.storage, self.queue, deployments).run,
            "chunk": self.chunk_execution().run,
            "webhook": lambda _: self.delivery_run().run(),
        }

    async def step(self, batch_id: str) -> None:
        """Let a worker take the next step of a batch, or of its shards once it has some, as far as they are due."""
        shards = self.select(f"SELECT id FROM shards WHERE batch_id = '{batch_id}' ORDER BY number")
        for message in [Message("shard", shard["id"]) for shard in shards] or [Message("batch", batch_id)]:
            await self.deliver(message)

    async def deliver_all(self) -> None:
        """Deliver the messages of the queue, and those sent meanwhile, in random order."""
        while self.queue.messages:
            waiting = self.queue.messages
            await self.deliver(waiting.pop(random.randrange(len(waiting))))

    async def run_schedule(self) -> None:
        """What the poller does every minute."""
        config = self.gateway.config
        retentions = (config.calls_retention, config.batch_retention)
        await Sweep(self.gateway.store, self.gateway.queue, config.by_id, *retentions).run()
        await self.engine().poll_due(100)

    def delivery_run(self) -> DeliveryRun:
        gateway = self.gateway
        return DeliveryRun(gateway.store, gateway.queue, gateway.webhook_client, gateway.event_bus)

    def chunk_execution(self) -> ChunkExecution:
        gateway, settings = self.gateway, self.gateway.config.router_settings
        dispatcher = Dispatcher(gateway.deployments, settings, gateway.store, gateway.prices, WORK_SECONDS)
        return ChunkExecution(gateway.store, gateway.storage, gateway.queue, gateway.deployments, dispatcher, settings)

    def engine(self) -> Engine:
        gateway = self.gateway
        return Engine(gateway.store, gateway.queue, gateway.deployments, lambda: gateway.storage)

    async def run_until_ended(self, batch_id: str, rounds: int = 60) -> BatchObject:
        """Deliver, let half a minute pass and run the schedule, until the batch has ended."""
        for _ in range(rounds):
            await self.deliver_all()
            batch = await self.retrieve(batch_id)
            if batch.status in ENDED:
                return batch
            self.age(30)
            await self.run_schedule()
        raise AssertionError(f"the batch has not ended: {batch}")

    def age(self, seconds: float) -> None:
        """Let this many seconds pass for the database: move every time in it back."""
        postgres.age(self._database_url, seconds)

    def analyze(self, table: str) -> None:
        """Have Postgres plan for the rows that the table has now."""
        postgres.connection(self._database_url).execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))

    # What is stored.

    def select(self, query: str) -> list[dict[str, Any]]:
        cursor = postgres.connection(self._database_url).cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute(query.encode()).fetchall()

    def jobs_at_providers(self) -> list[Batch]:
        """Every batch that was created at any account."""
        batches = self.provider.state.batches
        return [batch for account in ACCOUNTS for batch in batches.page(account, None, 1000)[0]]

    def stored(self) -> list[str]:
        """The keys of all objects in the bucket."""
        return self._aws.keys()

    def object(self, key: str) -> bytes:
        """The bytes of an object in the bucket."""
        return self._aws.read(key)

    def content(self, file_id: str) -> bytes:
        return self._aws.read(f"files/{file_id}")


def _variables(provider: Simulator) -> dict[str, str]:
    """The variables of the shipped `config.yaml`, with the simulated provider's addresses and keys."""
    keys = {name: account.key for name, account in provider.state.accounts.items()}
    return {
        "MANIFOLD_CONFIG": "config.yaml",
        "MANIFOLD_PRIVATE_WEBHOOKS": "true",
        "AZURE_API_BASE": provider.base("azure-general"),
        "AZURE_API_KEY": keys["azure-general"],
        "AZURE_API_BASE_2": provider.base("azure-special"),
        "AZURE_API_KEY_2": keys["azure-special"],
        "OPENAI_PROVIDER_API_BASE": provider.base("openai"),
        "OPENAI_PROVIDER_API_KEY": keys["openai"],
        "ANTHROPIC_API_BASE": provider.base("anthropic"),
        "ANTHROPIC_API_KEY": keys["anthropic"],
        "VLLM_API_BASE": provider.base("vllm"),
        "VLLM_API_KEY": keys["vllm"],
    }


def _body(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()
