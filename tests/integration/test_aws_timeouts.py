"""SQS and S3 that accept a connection and send nothing: requests are answered in time."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from batches.app import create as create_batches_app
from files.app import create as create_files_app
from manifold import queue as queue_module
from manifold.errors import Unavailable
from manifold.gateway import Gateway
from manifold.jsonl.check import Check
from manifold.queue import Message, Queue
from manifold.storage import Piece, Storage, Timeouts
from manifold.store.files import NewFile
from tests.support import gateways
from tests.support.provider import chat_lines

HASTY = Timeouts(connect=0.2, read=0.2, attempts=2)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The address of a server that stalls, in place of SQS and S3."""
    server = socket.create_server(("127.0.0.1", 0))  # its kernel takes the connections
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    values = {"ENDPOINT_URL_SQS": url, "ENDPOINT_URL_S3": url, "DEFAULT_REGION": "eu-west-1", "ACCESS_KEY_ID": "id"}
    for name, value in {**values, "SECRET_ACCESS_KEY": "key"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(queue_module, "_CONFIG", queue_module.config(0.2, 0.2))
    yield
    server.close()


@pytest.fixture
def queue(silent: None, monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(*(f"http://127.0.0.1/{name}" for name in ("control", "transfers", "webhooks", "execution")))


async def test_a_message_that_the_queue_does_not_take_is_unavailable(queue: Queue) -> None:
    with pytest.raises(Unavailable):
        await queue.send([Message("batch", "batch_1")])


async def test_announcing_ends_in_time_however_many_there_are(queue: Queue) -> None:
    async with asyncio.timeout(5):
        await queue.announce([Message("input", f"input_{number}") for number in range(1000)], seconds=0.3)


async def test_a_batch_is_created_while_the_queue_stalls(gateway: Gateway, silent: None) -> None:
    content = chat_lines("gpt-batch", 1)
    check = Check()
    check.feed(content)
    file = NewFile("file-1", "batch", "in.jsonl", len(content), ["gpt-batch"], check.finish().to_json())
    async with gateway.store.session() as tables:
        await tables.files.insert(file, await gateway.authenticate(gateways.MASTER_KEY))
    body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}

    async with gateways.client(create_batches_app(gateway)) as client:
        answer = await client.post("/batches", json=body)

    assert (answer.status_code, answer.json()["status"]) == (200, "validating")


async def test_a_file_that_the_storage_does_not_take_is_a_503(gateway: Gateway, silent: None) -> None:
    gateway.storage = Storage("manifold-tests", HASTY)

    async with gateways.client(create_files_app(gateway)) as client:
        form = {"purpose": "batch", "target_model_names": "gpt-batch"}
        answer = await client.post("/files", data=form, files={"file": ("in.jsonl", chat_lines("gpt-batch", 1))})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


async def test_every_call_of_a_stalled_storage_is_unavailable(silent: None) -> None:
    storage = Storage("manifold-tests", HASTY)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 6 * 1024 * 1024

    with pytest.raises(Unavailable):
        await anext(storage.read("files/a"))
    with pytest.raises(Unavailable):
        await anext(storage.gather([Piece("files/a", 0, 10)]))
    with pytest.raises(Unavailable):
        await storage.write("files/a", chunks())
    with pytest.raises(Unavailable):
        await storage.size("files/a")


async def test_a_download_that_stalls_is_unavailable(silent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def begin() -> socket.socket:
        connection, _ = server.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 1024 * 1024)
        return connection

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.getsockname()[1]}")
    begun = asyncio.create_task(asyncio.to_thread(begin))
    with server, pytest.raises(Unavailable):
        [chunk async for chunk in Storage("manifold-tests", HASTY).read("files/a")]
    (await begun).close()
