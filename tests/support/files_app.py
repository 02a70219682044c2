"""The files app and its worker in one process: real Postgres, the simulated provider over HTTP, moto's S3 and SQS.

A test module has it by `pytest_plugins = ("tests.support.files_app_fixtures",)`.
"""

from collections.abc import Mapping
from typing import Any

import httpx
import psycopg

from files.app import create as create_files_app
from files.transfers.joining import Joining
from files.transfers.orphans import Orphans
from files.transfers.purge import Purge
from files.transfers.replication import Replication
from files.transfers.results import Results
from local.provider import Account, Simulator
from manifold.auth import key_hash
from manifold.providers.registry import close_providers
from manifold.queue import Message
from manifold.schemas import File
from manifold.store.inputs import InputRow
from manifold.store.keys import Key
from tests.support import gateways
from tests.support.aws import Aws
from tests.support.provider import chat_lines

GENERAL = Account("general-account", "azure", "key-of-general", frozenset({"general-deployment"}))
SPECIAL = Account("special-account", "openai", "key-of-special", frozenset({"special-model", "mini-model"}))


class FilesApp:
    """Calls the app as clients do, delivers messages as Lambda does, and reads the rows."""

    def __init__(self, database_url: str, aws: Aws, provider: Simulator) -> None:
        for account in (GENERAL, SPECIAL):
            provider.state.accounts[account.name] = account
        self.database_url = database_url
        self.aws = aws
        self.provider = provider
        self.gateway = gateways.gateway(database_url, aws.environment | _addresses(provider))
        self.app = create_files_app(self.gateway)

    async def close(self) -> None:
        await self.gateway.store.close()
        await close_providers()

    # Clients.

    def client(self, key: str = gateways.MASTER_KEY) -> httpx.AsyncClient:
        return gateways.client(self.app, key)

    async def add_key(self, key_id: str, **members: Any) -> str:
        """A new virtual key."""
        value = f"sk-{key_id}"
        async with self.gateway.store.session() as tables:
            await tables.keys.insert(Key(**({"id": key_id, "token_hash": key_hash(value), "name": key_id} | members)))
        return value

    async def post(
        self, content: bytes | None = None, *, key: str = gateways.MASTER_KEY, headers: Mapping[str, str] | None = None,
        name: str = "input.jsonl", **fields: Any,
    ) -> httpx.Response:  # fmt: skip
        """`POST /files` of these bytes, by default as the input of a batch for the group `gpt-batch`."""
        data = {"purpose": "batch", "target_model_names": "gpt-batch"} | fields
        body = chat_lines("gpt-batch", 3) if content is None else content
        async with self.client(key) as client:
            return await client.post(
                "/files",
                data={field: value for field, value in data.items() if value is not None},
                files={"file": (name, body)},
                headers=dict(headers or {}),
            )

    async def upload(self, content: bytes | None = None, **fields: Any) -> File:
        """The uploaded file; an answer that is no success fails the test."""
        answer = await self.post(content, **fields)
        assert answer.status_code == 200, answer.text
        return File.model_validate(answer.json())

    async def file(self, file_id: str) -> File:
        async with self.client() as client:
            answer = await client.get(f"/files/{file_id}")
        assert answer.status_code == 200, answer.text
        return File.model_validate(answer.json())

    # The worker.

    async def deliver(self, message: Message) -> None:
        """Deliver a transfer message."""
        store, storage = self.gateway.store, self.gateway.storage
        queue, deployments = self.gateway.queue, self.gateway.deployments
        match message.kind:
            case "input":
                await Replication(store, storage, queue, deployments).run(message.id)
            case "job":
                await Results(store, storage, queue, deployments, self.gateway.prices).run(message.id)
            case "file":
                await Purge(store, storage, deployments).run(message.id)
            case "deployment":
                await Orphans(store, deployments).run(message.id)
            case "upload":
                await Joining(store, storage, queue, deployments).run(message.id)
            case "batch":
                raise AssertionError("no transfer")

    async def deliver_all(self) -> None:
        """Deliver every transfer message that has arrived."""
        for message in self.aws.take(self.aws.transfers_queue_url):
            await self.deliver(message)

    def control_messages(self) -> list[str]:
        """The ids of the batches in the control messages, which are taken out of the queue."""
        return [message.id for message in self.aws.take(self.aws.control_queue_url)]

    # What is stored.

    async def inputs(self, file_id: str) -> dict[str, InputRow]:
        """The file's inputs that are not discarded, by deployment."""
        async with self.gateway.store.session() as tables:
            return {row.deployment_id: row for row in await tables.inputs.of_file(file_id)}

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def age(self, seconds: float) -> None:
        """Let time pass: move due times and leases back."""
        for table in ("inputs", "jobs", "files"):
            self.sql(
                f"""UPDATE {table} SET due_at = due_at - make_interval(secs => %(seconds)s),
                        leased_until = leased_until - make_interval(secs => %(seconds)s)""".replace(
                    "%(seconds)s", str(float(seconds))
                )
            )
        self.sql(
            f"""UPDATE uploads SET due_at = due_at - make_interval(secs => {float(seconds)}),
                    leased_until = leased_until - make_interval(secs => {float(seconds)}),
                    expires_at = expires_at - make_interval(secs => {float(seconds)})"""
        )
        self.sql(f"UPDATE files SET deleted_at = deleted_at - make_interval(secs => {float(seconds)})")

    def insert_batch(self, batch_id: str, file_id: str, status: str = "validating") -> None:
        """Insert a batch with this input file, ended, or open with one shard (`shard_` and the id).

        The shard of a `validating` batch waits.
        """
        ended = status in ("completed", "failed", "expired", "cancelled")
        self.sql(
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, status, expires_at, due_at)
               VALUES (%s, %s, '/v1/chat/completions', '24h', '{gpt-batch}', %s, now() + interval '1 day', %s)""",
            batch_id,
            file_id,
            status,
            None if ended else "now",
        )
        if not ended:
            self.sql(
                """INSERT INTO shards (id, batch_id, number, requests, bytes, state)
                   VALUES ('shard_' || %s, %s, 0, 1, 1, %s)""",
                batch_id,
                batch_id,
                "waiting" if status == "validating" else "running",
            )


def _addresses(provider: Simulator) -> dict[str, str]:
    return {
        "AZURE_API_BASE": provider.base(GENERAL.name),
        "AZURE_API_KEY": GENERAL.key,
        "OPENAI_PROVIDER_API_BASE": provider.base(SPECIAL.name),
        "OPENAI_PROVIDER_API_KEY": SPECIAL.key,
    }
