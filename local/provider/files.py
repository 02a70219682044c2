"""The files of the simulated provider's accounts, kept on disk."""

import hashlib
import operator
import random
import secrets
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import BinaryIO, Self

from local.provider.clock import Clock
from local.provider.lenient_json import loads
from local.provider.lines import raw_lines
from local.provider.refusal import Refusal, not_found
from local.provider.token_rules import line_bytes

MAX_BYTES = 200 * 1024 * 1024
CHUNK = 1024 * 1024
EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class File:
    id: str
    account: str
    name: str
    purpose: str
    path: Path
    bytes: int
    sha256: str
    created_at: float
    expires_at: int | None
    usable_at: float
    """When a batch may use it: Azure processes a file first."""
    lines: int = 0
    tokens: int = 0
    """By the rule `bytes`."""
    models: tuple[str, ...] = ()


class Files:
    """All accounts' files. Removing one forgets it; the bytes stay for the batches that read them."""

    def __init__(self, spool: Path, clock: Clock) -> None:
        self._spool = spool
        self.clock = clock
        self._files: dict[str, File] = {}

    def receive(
        self,
        account: str,
        name: str,
        source: BinaryIO,
        *,
        lifetime: int | None,
        processing: float,
        limit: int = MAX_BYTES,
        file_id: str | None = None,
    ) -> File:
        """Keep an upload with its digest, lines and models. Raises a `Refusal` for a file over the limit."""
        chunks = iter(lambda: source.read(CHUNK), b"")
        file = self.spool(account, name, chunks, limit=limit, file_id=file_id)
        now = self.clock.now()
        expires_at = int(now) + lifetime if lifetime else None
        return self.keep(replace(file, created_at=now, expires_at=expires_at, usable_at=now + processing))

    def spool(
        self,
        account: str,
        name: str,
        chunks: Iterable[bytes],
        *,
        limit: int = MAX_BYTES,
        model_at: Sequence[str] = ("body", "model"),
        file_id: str | None = None,
    ) -> File:
        """A batch's input that is no file of the account's: the requests of a create's body, or an object elsewhere.
        `model_at`: where in a line its model is. Raises a `Refusal` for more bytes than the limit."""
        file_id, digest, size = file_id or _new_id(), hashlib.sha256(), 0
        path = self._spool / file_id
        with path.open("wb") as target:
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise Refusal(400, None, "File is too large.", "file")
                digest.update(chunk)
                target.write(chunk)
        lines, tokens, models = _contents(path, model_at)
        now = self.clock.now()
        return File(
            id=file_id,
            account=account,
            name=name,
            purpose="batch",
            path=path,
            bytes=size,
            sha256=digest.hexdigest(),
            created_at=now,
            expires_at=None,
            usable_at=now,
            lines=lines,
            tokens=tokens,
            models=models,
        )

    def result(
        self, account: str, name: str, *, shuffled: bool = False, new_file_id: Callable[[], str] | None = None
    ) -> "Result":
        """A file of a batch's results, to be written within a `with` block; `shuffled` when it is complete."""
        file_id = (new_file_id or _new_id)()
        return Result(self, account, name, file_id, self._spool / file_id, shuffled=shuffled)

    def empty(self, account: str) -> File:
        """The account's file of no bytes, which Azure's dated versions name where no line failed."""
        file_id = f"file-empty-{account}"
        if file_id not in self._files:
            path = self._spool / file_id
            path.touch()
            now = self.clock.now()
            self.keep(File(file_id, account, "error.jsonl", "batch_output", path, 0, EMPTY_SHA256, now, None, now))
        return self._files[file_id]

    def get(self, account: str, file_id: str) -> File:
        file = self._files.get(file_id)
        if file is None or file.account != account or self._has_expired(file):
            raise not_found("File", file_id)
        return file

    def page(
        self, account: str, purpose: str | None = None, after: str | None = None, limit: int = 10_000
    ) -> tuple[list[File], bool]:
        """The account's files after that one, newest first, and whether there are more."""
        files = [file for file in reversed(self._files.values()) if file.account == account]
        if after is not None:
            files = files[files.index(self.get(account, after)) + 1 :]
        files = [file for file in files if purpose in (None, file.purpose) and not self._has_expired(file)]
        return files[:limit], len(files) > limit

    def age(self, seconds: float) -> None:
        """Make all files this many seconds older."""
        self._files = {
            file_id: replace(file, created_at=file.created_at - seconds) for file_id, file in self._files.items()
        }

    def remove(self, account: str, file_id: str) -> None:
        del self._files[self.get(account, file_id).id]

    def discard(self, file_id: str) -> None:
        """Forget a file, if it is there."""
        self._files.pop(file_id, None)

    def clear(self) -> None:
        for path in self._spool.iterdir():
            path.unlink(missing_ok=True)
        self._files.clear()

    def keep(self, file: File) -> File:
        self._files[file.id] = file
        return file

    def _has_expired(self, file: File) -> bool:
        return file.expires_at is not None and file.expires_at <= self.clock.now()


class Result:
    """A file of results as it grows. `file_id` is `None` until it is written, and for one without a line."""

    def __init__(
        self, files: Files, account: str, name: str, file_id: str, path: Path, *, shuffled: bool = False
    ) -> None:
        self._files = files
        self._account = account
        self._name = name
        self._id = file_id
        self._path = path
        self._shuffled = shuffled
        self._size = 0
        self._digest = hashlib.sha256()
        self.file_id: str | None = None

    def __enter__(self) -> Self:
        self._target = self._path.open("wb")
        return self

    def write(self, line: bytes) -> None:
        self._size += self._target.write(line)
        self._digest.update(line)

    def __exit__(self, *_: object) -> None:
        self._target.close()
        if self._size == 0:
            return
        if self._shuffled:
            self._digest = _shuffle(self._path)
        now, sha256 = self._files.clock.now(), self._digest.hexdigest()
        file = File(self._id, self._account, self._name, "batch_output", self._path, self._size, sha256, now, None, now)
        self.file_id = self._files.keep(file).id


def _shuffle(path: Path) -> "hashlib._Hash":
    """Put the lines into an order that depends on their number alone. Returns the digest. Uses eight bytes a line."""
    starts, digest, shuffled = array("q", [0]), hashlib.sha256(), path.with_suffix(".shuffled")
    with path.open("rb") as source, shuffled.open("wb") as target:
        for line in source:
            starts.append(starts[-1] + len(line))
        starts.pop()
        random.Random(len(starts)).shuffle(starts)
        for start in starts:
            source.seek(start)
            line = source.readline()
            digest.update(line)
            target.write(line)
    shuffled.replace(path)
    return digest


def _new_id() -> str:
    return f"file-{secrets.token_hex(12)}"


def _contents(path: Path, model_at: Sequence[str]) -> tuple[int, int, tuple[str, ...]]:
    """How many lines and tokens an upload has, and which models its lines name, as far as they can be read."""
    count, tokens, models = 0, 0, set[str]()
    for line in raw_lines(path):
        count += 1
        tokens += line_bytes(line)
        try:
            models.add(str(reduce(operator.getitem, model_at, loads(line))))
        except (ValueError, LookupError, TypeError):
            continue
    return count, tokens, tuple(sorted(models))
