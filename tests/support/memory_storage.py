"""Storage in memory. `tests/integration/test_storage.py` holds it to the contract of the real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from manifold.errors import Unavailable
from manifold.storage import Composition, Piece, Storage

_READ = 1024 * 1024


class MemoryStorage(Storage):
    """A bucket that is a dictionary. It signs no links."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        body = b"".join([chunk async for chunk in chunks])
        await self.put(key, body)
        return len(body)

    @asynccontextmanager
    async def compose(self, key: str) -> AsyncIterator[Composition]:
        yield MemoryComposition(self, key)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        body = self._object(key)
        for start in range(0, len(body), _READ):
            yield body[start : start + _READ]

    async def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    async def fetch(self, piece: Piece) -> bytes:
        return self._object(piece.key)[piece.start : piece.start + piece.bytes]

    async def size(self, key: str) -> int | None:
        body = self.objects.get(key)
        return None if body is None else len(body)

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    async def clear(self, prefix: str) -> None:
        for key in [key for key in self.objects if key.startswith(prefix)]:
            await self.delete(key)

    def _object(self, key: str) -> bytes:
        if key not in self.objects:
            raise Unavailable("The file storage did not answer. Try again shortly.")
        return self.objects[key]


class MemoryComposition(Composition):
    """An object that is put together in memory."""

    def __init__(self, storage: MemoryStorage, key: str) -> None:
        self.bytes = 0
        self._memory = storage
        self._name = key
        self._body = bytearray()

    async def write(self, chunk: bytes) -> None:
        self._body += chunk
        self.bytes = len(self._body)

    async def copy(self, key: str, size: int) -> None:
        await self.write(await self._memory.fetch(Piece(key, 0, size)))

    async def finish(self) -> None:
        await self._memory.put(self._name, bytes(self._body))

    async def abort(self) -> None:
        pass
