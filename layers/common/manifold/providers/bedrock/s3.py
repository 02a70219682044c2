"""Objects of S3 by signed HTTP, as far as batches need them.

https://docs.aws.amazon.com/AmazonS3/latest/API/
"""

import html
import re
from collections.abc import AsyncIterator
from typing import NamedTuple, Self
from urllib.parse import quote

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Signature
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_jobs import GONE
from manifold.providers.bedrock.signature import region_of, s3_signer
from manifold.providers.content import of_input
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import MAX_PAGES
from manifold.providers.openai.batch_object import unix_time

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[A-Za-z0-9!_.*'()/-]+)")
_OBJECT = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_KEY = re.compile(r"<Key>([^<]*)</Key>")
_MODIFIED = re.compile(r"<LastModified>([^<]*)</LastModified>")
_TOKEN = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")


class Location(NamedTuple):
    """An object, or a folder of objects if the key ends with `/`."""

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: object) -> Self | None:
        """The location that `s3://bucket/key` names; `None` if it names none."""
        match = _URI.fullmatch(uri) if isinstance(uri, str) else None
        return None if match is None else cls(match["bucket"], match["key"])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class Stored(NamedTuple):
    """An object as S3 lists it."""

    key: str
    modified_at: int | None
    """Unix seconds, if they can be read."""


class S3:
    """The objects that a deployment's credentials can reach."""

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    async def write(self, endpoint: Endpoint, at: Location, data: Input) -> None:
        """Write an object in one request. Nothing is written if the request breaks off."""
        headers = {"Content-Type": "application/jsonl"}
        if key_id := endpoint.options.get("s3_encryption_key_id"):
            headers |= {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": key_id,
            }
        answer = await self._client.send("PUT", _call(endpoint, at, headers=headers), of_input(data))
        if not answer.headers.get("etag"):
            raise ProviderUnclear("an answer that is not S3's")

    def read(self, endpoint: Endpoint, at: Location) -> AsyncIterator[bytes]:
        """The bytes of an object, as they arrive."""
        return self._client.download(_call(endpoint, at))

    async def is_absent(self, endpoint: Endpoint, at: Location) -> bool:
        """Whether S3 says that there is no such object. Without the permission to list, it says only 403."""
        try:
            await self._client.send("HEAD", _call(endpoint, at))
        except ProviderRefused as refusal:
            return refusal.status == GONE
        return False

    async def delete(self, endpoint: Endpoint, at: Location) -> None:
        """Delete an object, if it is there."""
        await self._client.send("DELETE", _call(endpoint, at))

    async def listed(self, endpoint: Endpoint, folder: Location) -> AsyncIterator[Stored]:
        """The objects of a folder, in the order of their keys."""
        cursor: dict[str, str] = {}
        root = Location(folder.bucket, "")
        for _ in range(MAX_PAGES):
            params = {"list-type": "2", "prefix": folder.key, **cursor}
            answer = await self._client.send("GET", _call(endpoint, root, params))
            page = answer.body.decode(errors="replace")
            if "<ListBucketResult" not in page:
                raise ProviderUnclear("an answer that is no listing of S3's")
            for entry in _OBJECT.findall(page):
                key, modified = _KEY.search(entry), _MODIFIED.search(entry)
                if key is not None:
                    yield Stored(html.unescape(key[1]), unix_time(modified[1]) if modified else None)
            token = _TOKEN.search(page)
            if token is None:
                return
            following = {"continuation-token": html.unescape(token[1])}
            if following == cursor:
                break
            cursor = following
        raise ProviderUnclear("a listing that does not end")


def _call(
    endpoint: Endpoint, at: Location, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> HttpCall:
    region = endpoint.options.get("s3_region_name") or region_of(endpoint)
    sign = s3_signer(endpoint.signature or Signature(region), region, headers or {})
    return HttpCall(_url(endpoint, at, region), {}, params or {}, endpoint.timeout, endpoint.model, sign)


def _url(endpoint: Endpoint, at: Location, region: str) -> str:
    """At AWS the bucket is in the host's name, unless it has a dot, which the certificate would not cover."""
    key = quote(at.key, safe="/")
    own = endpoint.options.get("s3_endpoint_url")
    if own or "." in at.bucket:
        root = own.rstrip("/") if own else f"https://s3.{region}.amazonaws.com"
        return f"{root}/{at.bucket}/{key}"
    return f"https://{at.bucket}.s3.{region}.amazonaws.com/{key}"
