"""S3, the bytes: whole objects, streams in and out in constant memory, and presigned links.

boto3 blocks, so each call runs in a thread; a stream holds one part of 8 MiB at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from manifold.errors import Unavailable

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

_PART = 8 * 1024 * 1024  # S3 takes parts of 5 MiB and more
_READ = 1024 * 1024
_LINK_SECONDS = 300

Answer = TypeVar("Answer")


class Storage:
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        # boto3's defaults sign presigned links with SigV2 in us-east-1 and name the global host elsewhere.
        self._client: S3Client = boto3.client(
            "s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
        )

    async def put(self, key: str, body: bytes) -> None:
        """Write a small object."""
        await _call(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body))

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a stream of any length as one object and return its length; nothing is kept if the stream fails."""
        buffer = bytearray()
        upload = None
        written = 0
        try:
            async for chunk in chunks:
                buffer += chunk
                written += len(chunk)
                while len(buffer) >= _PART:
                    upload = upload or await _Multipart.start(self._client, self._bucket, key)
                    await upload.add(bytes(buffer[:_PART]))
                    del buffer[:_PART]
            if upload is None:
                await self.put(key, bytes(buffer))
            else:
                await upload.finish(bytes(buffer))
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

    async def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is no error."""
        await _call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def link(self, key: str, *, filename: str, content_type: str) -> str:
        """A presigned link to an object that downloads under this name."""
        return self._client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                "ResponseContentDisposition": _attachment(filename),
                "ResponseContentType": content_type,
            },
            ExpiresIn=_LINK_SECONDS,
        )


class _Multipart:
    """One multipart upload: S3 shows the object only when it is finished."""

    def __init__(self, client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload_id = upload_id
        self._parts: list[CompletedPartTypeDef] = []

    @classmethod
    async def start(cls, client: "S3Client", bucket: str, key: str) -> "_Multipart":
        answer = await _call(lambda: client.create_multipart_upload(Bucket=bucket, Key=key))
        return cls(client, bucket, key, answer["UploadId"])

    async def add(self, body: bytes) -> None:
        number = len(self._parts) + 1
        answer = await _call(
            lambda: self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=body
            )
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    async def finish(self, last: bytes) -> None:
        if last:
            await self.add(last)
        await _call(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )
        )

    async def abort(self) -> None:
        await _call(
            lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)
        )


async def _call(request: Callable[[], Answer]) -> Answer:
    try:
        return await asyncio.to_thread(request)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("The file storage did not answer. Try again shortly.") from error


def _attachment(filename: str) -> str:
    """A Content-Disposition that keeps the user's file name: https://datatracker.ietf.org/doc/html/rfc6266"""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
