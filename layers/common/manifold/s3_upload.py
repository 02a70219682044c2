"""An object that is written to S3 piece by piece, of bytes and of other objects; used by `manifold.storage`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from manifold.errors import Unavailable

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

_PART = 5 * 1024 * 1024  # S3 takes no smaller ones, but for the last
_READ = 1024 * 1024
_COPY = 128 * _READ  # bytes that S3 copies with one request, which must answer within the timeout of a read
_GOING = 3  # concurrent requests: a single one waits for latency, not for bandwidth

Answer = TypeVar("Answer")


class Piece(NamedTuple):
    """`bytes` bytes of an object, from the offset `start` on."""

    key: str
    start: int
    bytes: int

    @classmethod
    def of(cls, key: str, size: int, most: int, *, start: int = 0) -> "Iterator[Piece]":
        """`size` bytes of an object from the offset `start` on, in pieces of at most `most` bytes."""
        end = start + size
        for first in range(start, end, most):
            yield cls(key, first, min(most, end - first))

    @property
    def byte_range(self) -> str:
        """As HTTP's headers have it."""
        return f"bytes={self.start}-{self.start + self.bytes - 1}"


Put = Callable[[str, bytes], Awaitable[None]]
"""Writes a small object."""
Gather = Callable[[Iterable[Piece]], AsyncIterator[bytes]]
"""Reads pieces of objects."""


class Composition:
    """An object that is being written, one after the other of bytes and of other objects (`Storage.compose`).

    S3 copies what is large enough by itself. What is smaller is gathered, since only the last part of an object may
    have less than 5 MiB.
    """

    def __init__(self, client: "S3Client", bucket: str, key: str, put: Put, gather: Gather) -> None:
        self.bytes = 0
        self._put = put
        self._gather = gather
        self._client = client
        self._bucket = bucket
        self._key = key
        self._part: list[bytes] = []
        self._held = 0
        self._upload: _Multipart | None = None
        self._finished = False

    async def write(self, chunk: bytes) -> None:
        """Append these bytes; returns when more can be taken."""
        self._part.append(chunk)
        self._held += len(chunk)
        self.bytes += len(chunk)
        if self._held >= _PART:
            upload = await self._begun()
            self._held = 0
            await upload.add(_joined(self._part))

    async def copy(self, key: str, size: int) -> None:
        """Append another object of this bucket, which has this size."""
        start = _PART - self._held if self._held else 0
        if size - start < _PART:
            start = size
        async for chunk in self._gather(Piece.of(key, start, _READ)):
            await self.write(chunk)
        count = -(-(size - start) // _COPY)
        for piece in Piece.of(key, size - start, -(-(size - start) // count), start=start) if count else ():
            await (await self._begun()).copy(piece)
            self.bytes += piece.bytes

    async def finish(self) -> None:
        """Show the object, also an empty one."""
        if self._upload is None:
            await self._put(self._key, _joined(self._part))
        else:
            await self._upload.finish(_joined(self._part))
        self._finished = True

    async def abort(self) -> None:
        """Forget an object that is not finished."""
        if self._upload is not None and not self._finished:
            await self._upload.abort()

    async def _begun(self) -> "_Multipart":
        if self._upload is None:
            self._upload = await _Multipart.start(self._client, self._bucket, self._key)
        return self._upload


class _Multipart:
    """One multipart upload, which sends several parts at once. S3 shows the object when the upload is finished."""

    def __init__(self, client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload_id = upload_id
        self._parts = 0
        self._sent: list[CompletedPartTypeDef] = []
        self._sending: deque[asyncio.Task[CompletedPartTypeDef]] = deque()

    @classmethod
    async def start(cls, client: "S3Client", bucket: str, key: str) -> "_Multipart":
        answer = await call(lambda: client.create_multipart_upload(Bucket=bucket, Key=key))
        return cls(client, bucket, key, answer["UploadId"])

    async def add(self, body: bytes) -> None:
        """Begin to send the next part; returns when another part may begin."""
        self._parts += 1
        await self._begin(self._send(self._parts, body))

    async def copy(self, piece: Piece) -> None:
        """Have S3 copy the next part from another object; returns when another part may begin."""
        self._parts += 1
        await self._begin(self._copy(self._parts, piece))

    async def finish(self, last: bytes) -> None:
        if last:
            await self.add(last)
        while self._sending:
            self._sent.append(await self._sending.popleft())
        await call(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._sent}
            )
        )

    async def abort(self) -> None:
        """Abort the upload, after the parts that are being sent: a part that came after the abort would stay."""
        await asyncio.gather(*self._sending, return_exceptions=True)
        await call(
            lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)
        )

    async def _send(self, number: int, body: bytes) -> "CompletedPartTypeDef":
        answer = await call(
            lambda: self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=body
            )
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _copy(self, number: int, piece: Piece) -> "CompletedPartTypeDef":
        answer = await call(
            lambda: self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": piece.key},
                CopySourceRange=piece.byte_range,
            )
        )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    async def _begin(self, sending: Coroutine[Any, Any, "CompletedPartTypeDef"]) -> None:
        self._sending.append(asyncio.create_task(sending))
        if len(self._sending) == _GOING:
            self._sent.append(await self._sending.popleft())


def _joined(part: list[bytes]) -> bytes:
    """The chunks as one. The list is emptied."""
    whole = b"".join(part)
    part.clear()
    return whole


async def call(request: Callable[[], Answer]) -> Answer:
    """The answer of S3. Raises `Unavailable` if there is none, or a refusal."""
    try:
        return await asyncio.to_thread(request)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("The file storage did not answer. Try again shortly.") from error
