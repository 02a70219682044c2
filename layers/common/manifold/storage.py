"""S3: whole objects, streams in and out in constant memory, and presigned links.

boto3 blocks, so each call runs in a thread. Writing a stream holds up to four parts of 5 MiB: one that fills, and three
that are being sent. Gathering pieces holds four of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from manifold.errors import Unavailable

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

_PART = 5 * 1024 * 1024  # S3 takes no smaller ones, but for the last
_READ = 1024 * 1024
_COMING, _GOING = 4, 3  # concurrent requests: a single one waits for latency, not for bandwidth
_MANY = 1000  # objects that S3 lists and deletes with one call
_LINK_SECONDS = 300

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Piece:
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


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for a connect and for each read, and attempts at a request."""

    connect: float
    read: float
    attempts: int

    def config(self) -> Config:
        # boto3's defaults sign presigned links with SigV2 in us-east-1 and name the global host elsewhere.
        return Config(
            signature_version="s3v4",
            s3={"addressing_style": "virtual"},
            connect_timeout=self.connect,
            read_timeout=self.read,
            retries={"total_max_attempts": self.attempts, "mode": "standard"},
        )


REQUEST = Timeouts(connect=2, read=5, attempts=2)
"""For a request, which API Gateway ends after 29 s."""
TRANSFER = Timeouts(connect=5, read=30, attempts=4)
"""For a worker, which has 900 s, and whose streams are expensive to repeat."""


class Storage:
    """One bucket. The use cases of files and the transfers worker call it.

    Each call raises `Unavailable` if S3 does not answer or refuses. Links are signed here, without a request.
    """

    def __init__(self, bucket: str, timeouts: Timeouts = REQUEST) -> None:
        self._bucket = bucket
        self._client: S3Client = boto3.client("s3", config=timeouts.config())

    async def put(self, key: str, body: bytes) -> None:
        """Write a small object."""
        await _call(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body))

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a stream of any length as one object, and return its length. If it fails, no object is written."""
        part: list[bytes] = []
        held = written = 0
        upload = None
        try:
            async for chunk in chunks:
                part.append(chunk)
                held += len(chunk)
                written += len(chunk)
                if held >= _PART:
                    upload = upload or await _Multipart.start(self._client, self._bucket, key)
                    await upload.add(_joined(part))
                    held = 0
            if upload is None:
                await self.put(key, _joined(part))
            else:
                await upload.finish(_joined(part))
        except BaseException:
            if upload is not None:
                await upload.abort()
            raise
        return written

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of an object, a megabyte at a time."""
        answer = await _call(lambda: self._client.get_object(Bucket=self._bucket, Key=key))
        body = answer["Body"]
        try:
            while chunk := await _call(lambda: body.read(_READ)):
                yield chunk
        finally:
            body.close()

    async def gather(self, pieces: Iterable[Piece]) -> AsyncGenerator[bytes, None]:
        """The bytes of these pieces in order. The next pieces are fetched meanwhile."""
        coming: deque[asyncio.Task[bytes]] = deque()
        try:
            for piece in pieces:
                coming.append(asyncio.create_task(self.fetch(piece)))
                if len(coming) == _COMING:
                    yield await coming.popleft()
            while coming:
                yield await coming.popleft()
        finally:
            await asyncio.gather(*coming, return_exceptions=True)

    async def fetch(self, piece: Piece) -> bytes:
        """The bytes of one piece, held in memory."""
        byte_range = f"bytes={piece.start}-{piece.start + piece.bytes - 1}"

        def fetch() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=piece.key, Range=byte_range)["Body"].read()

        return await _call(fetch)

    async def size(self, key: str) -> int | None:
        """The size of an object in bytes; `None` if there is no such object."""
        answer = await self._head(key)
        return answer["ContentLength"] if answer else None

    async def etag(self, key: str) -> str | None:
        """What changes with the bytes of an object; `None` if there is no such object."""
        answer = await self._head(key)
        return answer["ETag"] if answer else None

    async def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        def head() -> "HeadObjectOutputTypeDef | None":
            try:
                return self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise

        return await _call(head)

    async def delete(self, key: str) -> None:
        """Delete an object. One that does not exist is no error."""
        await _call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    async def clear(self, prefix: str) -> None:
        """Delete every object whose key begins with `prefix`. Finding none is no error."""

        def delete() -> bool:
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=_MANY)
            objects: list[ObjectIdentifierTypeDef] = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if objects:
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
                if answer.get("Errors"):
                    raise Unavailable("The file storage did not delete all objects. Try again shortly.")
            return page["IsTruncated"]

        while await _call(delete):
            pass

    def upload_link(self, key: str, *, size: int, seconds: int) -> str:
        """A presigned link that takes PUTs of exactly `size` bytes for `seconds`."""
        return self._client.generate_presigned_url(
            "put_object",
            Params={"Bucket": self._bucket, "Key": key, "ContentLength": size},
            ExpiresIn=seconds,
        )

    def link(
        self, key: str, *, filename: str, content_type: str, method: Literal["get_object", "head_object"] = "get_object"
    ) -> str:
        """A presigned link for a GET or a HEAD of an object, for five minutes. It downloads as `filename`."""
        return self._client.generate_presigned_url(
            method,
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ResponseContentDisposition": attachment(filename),
                "ResponseContentType": content_type,
            },
            ExpiresIn=_LINK_SECONDS,
        )


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
        answer = await _call(lambda: client.create_multipart_upload(Bucket=bucket, Key=key))
        return cls(client, bucket, key, answer["UploadId"])

    async def add(self, body: bytes) -> None:
        """Begin to send the next part; returns when another part may begin."""
        self._parts += 1
        self._sending.append(asyncio.create_task(self._send(self._parts, body)))
        if len(self._sending) == _GOING:
            self._sent.append(await self._sending.popleft())

    async def finish(self, last: bytes) -> None:
        if last:
            await self.add(last)
        while self._sending:
            self._sent.append(await self._sending.popleft())
        await _call(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._sent}
            )
        )

    async def abort(self) -> None:
        """Abort the upload, after the parts that are being sent: a part that came after the abort would stay."""
        await asyncio.gather(*self._sending, return_exceptions=True)
        await _call(
            lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)
        )

    async def _send(self, number: int, body: bytes) -> "CompletedPartTypeDef":
        answer = await _call(
            lambda: self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=body
            )
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}


def _joined(part: list[bytes]) -> bytes:
    """The chunks as one. The list is emptied."""
    whole = b"".join(part)
    part.clear()
    return whole


async def _call(request: Callable[[], Answer]) -> Answer:
    try:
        return await asyncio.to_thread(request)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("The file storage did not answer. Try again shortly.") from error


def attachment(filename: str) -> str:
    """A Content-Disposition that keeps the user's file name: https://datatracker.ietf.org/doc/html/rfc6266"""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
