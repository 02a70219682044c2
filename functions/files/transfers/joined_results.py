"""The output and the error file of a batch, put together from the results of its shards.

What needs no change is copied by S3. Other results are streamed, and compared by hashes of their ids: 16 to 32 bytes a
line of one family. A family's input is read only if a line of it has no answer, or an answer no line.
"""

from collections.abc import Callable, Mapping
from itertools import count
from secrets import token_hex
from typing import Any

import orjson

from files.transfers.held_lines import HeldLines
from files.transfers.join_plan import Family, ResultObject
from files.transfers.request_ids import RequestIds
from files.transfers.shard_requests import ShardRequests
from manifold.jsonl.result import Result, begun_id, read
from manifold.storage import Composition, Piece, Storage
from manifold.store.files import storage_key


class JoinedResults:
    """Writes both files, family by family. `ResultJoin` calls it, under the batch's lease.

    The counts are those of the families that were added.
    """

    def __init__(self, storage: Storage, output: Composition, error: Composition) -> None:
        self.succeeded = 0
        self.missing = 0
        """Lines without an answer: each has an error line of ours."""
        self.unknown = 0
        """Results that answer no request. They are left out."""
        self._storage = storage
        self._files = {"output": output, "error": error}

    async def add(self, family: Family, lines: ShardRequests | None) -> None:
        """Add the answers to these lines, those of the family's first shard: needed if it is not exact.

        Raises `ManifoldError`.
        """
        if family.is_exact:
            await self._add_exact(family)
        else:
            assert lines is not None  # noqa: S101 (as said)
            await self._add_compared(family, lines)

    async def _add_exact(self, family: Family) -> None:
        """Each line has an answer, so only earlier answers of lines that ran again are left out."""
        last = RequestIds()
        for member, found in family.objects:
            if member is family.first and member.keeps(found):
                await self._copy(found)
            else:
                await self._stream(found, lambda custom_id, _: last.add(custom_id))
        self.succeeded += family.succeeded

    async def _add_compared(self, family: Family, lines: ShardRequests) -> None:
        requests = RequestIds()
        if any(member.objects for member in family.members):
            async for some in lines.ids(self._storage):
                for custom_id in some:
                    requests.add(custom_id)
        for _, found in family.objects:
            await self._stream(found, lambda custom_id, result: self._takes(requests, custom_id, result))
        if requests.marked < len(requests) or not requests:
            await self._add_missing(family, lines, requests)

    def _takes(self, requests: RequestIds, custom_id: str, result: Result | None) -> bool:
        """Whether this result is its line's last answer, counted as such."""
        if not requests.mark(custom_id):
            self.unknown += custom_id not in requests
            return False
        self.succeeded += result is None or not result.failed
        return True

    async def _add_missing(self, family: Family, lines: ShardRequests, answered: RequestIds) -> None:
        """Add an error line for each line without an answer."""
        error = {"code": family.missing["code"], "message": family.missing["message"]}
        prefix, number = token_hex(8), count()
        async for some in lines.ids(self._storage):
            missing = [custom_id for custom_id in some if not answered.is_marked(custom_id)]
            self.missing += len(missing)
            if missing:
                entries = (
                    {"id": f"batch_req_{prefix}{next(number):08x}", "custom_id": one, "response": None, "error": error}
                    for one in missing
                )
                await self._files["error"].write(b"".join(map(_line, entries)))

    async def _copy(self, found: ResultObject) -> None:
        key, file = storage_key(found.file_id), self._files[found.kind]
        await file.copy(key, found.bytes)
        if await self._storage.fetch(Piece(key, found.bytes - 1, 1)) != b"\n":
            await file.write(b"\n")

    async def _stream(self, found: ResultObject, takes: Callable[[str, Result | None], bool]) -> None:
        """Add those results of an object that are taken. A line that is no result is left out."""

        def whole(line: bytes) -> bytes:
            result = read(line)
            return line if result is not None and takes(result.custom_id, result) else b""

        def long(line: bytes) -> bytes:
            custom_id = begun_id(line)
            return line if custom_id is not None and takes(custom_id, None) else b""

        lines, file = HeldLines(whole, long), self._files[found.kind]
        async for chunk in self._storage.read(storage_key(found.file_id)):
            if taken := lines.feed(chunk):
                await file.write(taken)
        if lines.is_within_long:
            await file.write(b"\n")
        elif last := whole(lines.take()):
            await file.write(last + b"\n")


def _line(entry: Mapping[str, Any]) -> bytes:
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
