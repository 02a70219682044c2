"""S3: whole objects, streams in and out in constant memory, and presigned links.

boto3 blocks, so each call runs in a thread. Writing a stream holds up to four parts of 5 MiB: one that fills, and three
that are being sent. Gathering pieces holds four of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from manifold.errors import Unavailable
from manifold.s3_upload import Composition, Piece, call

__all__ = ["REQUEST", "TRANSFER", "Composition", "Piece", "Storage", "Timeouts", "attachment"]

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

_READ = 1024 * 1024
_COMING = 4  # concurrent requests: a single one waits for latency, not for bandwidth
_MANY = 1000  # objects that S3 lists and deletes with one call
_LINK_SECONDS = 300


class Timeouts(NamedTuple):
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
        await call(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body))

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a stream of any length as one object, and return its length. If it fails, no object is written."""
        async with self.compose(key) as composition:
            async for chunk in chunks:
                await composition.write(chunk)
            await composition.finish()
        return composition.bytes

    @asynccontextmanager
    async def compose(self, key: str) -> AsyncIterator[Composition]:
        """Write one object of bytes and of parts of other objects. If it is not finished, no object is written."""
        composition = Composition(self._client, self._bucket, key, self.put, self.gather)
        try:
            yield composition
        finally:
            await composition.abort()

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of an object, a megabyte at a time."""
        answer = await call(lambda: self._client.get_object(Bucket=self._bucket, Key=key))
        body = answer["Body"]
        try:
            while chunk := await call(lambda: body.read(_READ)):
                yield chunk
        finally:
            body.close()

    async def get(self, key: str) -> bytes | None:
        """The bytes of a small object, held in memory; `None` if there is no such object."""

        def get() -> bytes | None:
            try:
                return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise

        return await call(get)

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

        def fetch() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=piece.key, Range=piece.byte_range)["Body"].read()

        return await call(fetch)

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

        return await call(head)

    async def delete(self, key: str) -> None:
        """Delete an object. One that does not exist is no error."""
        await call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

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

        while await call(delete):
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


def attachment(filename: str) -> str:
    """A Content-Disposition that keeps the user's file name: https://datatracker.ietf.org/doc/html/rfc6266"""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
