"""S3 and SQS as objects in memory that answer at once: only Manifold, its libraries and Postgres are measured."""

from collections.abc import AsyncIterator, Sequence

from manifold.queue import Kind, Message, Queue
from manifold.storage import Piece, Storage


class InMemoryStorage(Storage):
    """A bucket in memory. `calls` counts what would be a call of S3."""

    def __init__(self) -> None:
        self.calls = 0
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        self.calls += 1
        self._objects[key] = body

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        await self.put(key, b"".join([chunk async for chunk in chunks]))
        return len(self._objects[key])

    async def read(self, key: str) -> AsyncIterator[bytes]:
        self.calls += 1
        yield self._objects[key]

    async def fetch(self, piece: Piece) -> bytes:
        self.calls += 1
        return self._objects[piece.key][piece.start : piece.start + piece.bytes]

    async def get(self, key: str) -> bytes | None:
        self.calls += 1
        return self._objects.get(key)

    async def etag(self, key: str) -> str | None:
        self.calls += 1
        found = self._objects.get(key)
        return None if found is None else str(hash(found))

    def link(self, key: str, *, filename: str, content_type: str, method: str = "get_object") -> str:
        return f"https://bucket.example/{key}"


class InMemoryQueue(Queue):
    """Keeps messages until they are taken. `sent` counts them."""

    def __init__(self) -> None:
        self.sent = 0
        self._messages: list[tuple[Message, float]] = []

    async def send(self, messages: Sequence[Message], *, delay: float = 0) -> list[Message]:
        self.sent += len(messages)
        self._messages.extend((message, delay) for message in messages)
        return []

    def take(self, kind: Kind) -> list[str]:
        """The ids in the messages of this kind, which are removed."""
        named = [message.id for message, _ in self._messages if message.kind == kind]
        self._messages = [(message, delay) for message, delay in self._messages if message.kind != kind]
        return named

    def take_due(self) -> list[Message]:
        """The messages that were sent without a delay. All messages are removed."""
        due = [message for message, delay in self._messages if not delay]
        self._messages.clear()
        return due
