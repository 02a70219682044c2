"""The objects of the simulated S3 and GCS: buckets of accounts, kept on disk."""

import bisect
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from local.provider.accounts import Account
from local.provider.clock import Clock

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class StoredObject:
    bucket: str
    key: str
    path: Path
    size: int
    md5: bytes
    content_type: str
    updated: float
    generation: int
    """Which write of all it is, from 1."""


class Page(NamedTuple):
    objects: Sequence[StoredObject]
    more: bool


class Writer:
    """The bytes of one object as they come, written within `with` blocks: an upload may take several calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256()

    @classmethod
    def of(cls, path: Path) -> Self:
        """The bytes that a file has already."""
        written = cls(path)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                written._count(chunk)
        return written

    def __enter__(self) -> Self:
        self._file = self.path.open("ab")
        return self

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._count(data)

    def _count(self, data: bytes) -> None:
        self.size += len(data)
        self.md5.update(data)
        self.sha256.update(data)

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass
class ObjectStore:
    """All accounts' objects. Removing one forgets it; the bytes stay for the jobs that read them."""

    spool: Path
    clock: Clock
    sessions: dict[str, Any] = field(default_factory=dict)
    """The uploads that are begun, by their ids: the resumable ones of Cloud Storage, and Together's."""
    _objects: dict[tuple[str, str], dict[str, StoredObject]] = field(default_factory=dict)
    """By account and bucket, then by key."""
    _writes: int = 0

    def writer(self) -> Writer:
        return Writer(self.spool / f"object-{secrets.token_hex(12)}")

    def keep(self, account: Account, bucket: str, key: str, written: Writer, content_type: str) -> StoredObject:
        """The object of these bytes, in place of the one that this key had."""
        self._writes += 1
        kept = StoredObject(
            bucket, key, written.path, written.size, written.md5.digest(), content_type, self.clock.now(), self._writes
        )
        self._objects.setdefault((account.name, bucket), {})[key] = kept
        return kept

    def get(self, account: Account, bucket: str, key: str) -> StoredObject | None:
        return self._objects.get((account.name, bucket), {}).get(key)

    def remove(self, account: Account, bucket: str, key: str) -> bool:
        """Whether there was one."""
        return self._objects.get((account.name, bucket), {}).pop(key, None) is not None

    def page(self, account: Account, bucket: str, prefix: str, after: str, limit: int) -> Page:
        """The objects whose keys begin with `prefix` and come after `after`, by the order of their keys' bytes."""
        objects = self._objects.get((account.name, bucket), {})
        keys = sorted((key for key in objects if key.startswith(prefix)), key=str.encode)
        start = bisect.bisect_right(keys, after.encode(), key=str.encode) if after else 0
        chosen = keys[start : start + limit]
        return Page([objects[key] for key in chosen], start + limit < len(keys))

    def clear(self) -> None:
        self._objects.clear()
        self.sessions.clear()


def read_range(path: Path, start: int, count: int) -> Iterator[bytes]:
    if count == 0:  # the client has the whole answer before this is read, and the file may be gone by then
        return
    with path.open("rb") as file:
        file.seek(start)
        while count > 0 and (chunk := file.read(min(CHUNK, count))):
            count -= len(chunk)
            yield chunk


async def receive(written: Writer, body: AsyncIterator[bytes], limit: int) -> bool:
    """Write the body behind what is written; `False` once that is more than `limit` bytes."""
    with written:
        async for chunk in body:
            if written.size + len(chunk) > limit:
                return False
            written.write(chunk)
    return True
