"""Objects in Cloud Storage, by its JSON API. A reference is an object's URI, `gs://bucket/name`, or a folder's.

https://cloud.google.com/storage/docs/json_api/v1/objects,
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input
from manifold.providers.batch_jobs import GONE
from manifold.providers.content import JSON_LINES, of_input
from manifold.providers.failures import read_object
from manifold.providers.google_api import number, pages
from manifold.providers.http_call import HttpCall
from manifold.providers.vertex_ai.calls import Calls

URL = "https://storage.googleapis.com"
INCOMPLETE = 308
"""The status of an upload that lacks bytes."""
URI = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[!-~]*[!-.0-~])/*")


class Object(NamedTuple):
    """An object, or a folder of objects."""

    bucket: str
    name: str

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket}/{self.name}"


def parsed(uri: object) -> Object | None:
    """The object of a URI; `None` if it is none."""
    match = URI.fullmatch(uri) if isinstance(uri, str) else None
    return None if match is None else Object(match["bucket"], match["name"])


class Storage:
    """The objects that a deployment's account may see."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def upload(self, endpoint: Endpoint, target: Object, data: Input) -> None:
        """Write the lines to the object, in one session. They replace what it held."""
        headers = {"X-Upload-Content-Type": JSON_LINES, "X-Upload-Content-Length": str(data.bytes)}
        url = f"{_root(endpoint)}/upload/storage/v1/b/{target.bucket}/o"
        start = await self._calls.to(endpoint, url, {"uploadType": "resumable", "name": target.name}, headers)
        with self._calls.watched(endpoint):
            begun = await self._calls.client.send("POST", start)
        address = begun.headers.get("location")
        if not address:
            raise ProviderUnclear("no address to upload to")
        # The address is the permission: it needs no token.
        session = HttpCall(address, {}, {}, endpoint.timeout, endpoint.model)
        content, incomplete = of_input(data), frozenset({INCOMPLETE})
        answer = await self._calls.client.send("PUT", session, content, given_by=start, redirects_to=incomplete)
        written = read_object(answer.body) or {}
        if answer.status == INCOMPLETE or number(written.get("size")) != data.bytes:
            raise ProviderUnclear("the upload is not complete", status=answer.status)

    async def download(self, endpoint: Endpoint, source: Object) -> AsyncIterator[bytes]:
        """The bytes of an object, continued where they break off."""
        call = await self._calls.to(endpoint, _url(endpoint, source), {"alt": "media"})
        with self._calls.watched(endpoint):
            async for chunk in self._calls.client.download(call):
                yield chunk

    async def is_absent(self, endpoint: Endpoint, one: Object) -> bool:
        """Whether there is no such object. `False` if that cannot be found out."""
        try:
            await self._calls.json("GET", endpoint, _url(endpoint, one), params={"fields": "name"})
        except ProviderError as error:
            return _is_gone(error)
        return False

    async def delete(self, endpoint: Endpoint, one: Object) -> None:
        """No error if it is gone already."""
        call = await self._calls.to(endpoint, _url(endpoint, one))
        try:
            with self._calls.watched(endpoint):
                await self._calls.client.send("DELETE", call)  # answers with nothing
        except ProviderRefused as refusal:
            if not _is_gone(refusal):
                raise

    async def listed(self, endpoint: Endpoint, folder: Object) -> AsyncIterator[tuple[Object, Mapping[str, Any]]]:
        """The objects of a folder, by name, with what is known of them."""
        prefix = f"{folder.name}/"

        async def page(cursor: Mapping[str, str]) -> Mapping[str, Any]:
            url = f"{_root(endpoint)}/storage/v1/b/{folder.bucket}/o"
            return await self._calls.json("GET", endpoint, url, params={"prefix": prefix, **cursor})

        async for items in pages(page, "items"):
            for item in items:
                one = parsed(f"gs://{folder.bucket}/{item.get('name')}")
                if one is not None and one.name.startswith(prefix):
                    yield one, item


def _root(endpoint: Endpoint) -> str:
    return (endpoint.options.get("gcs_endpoint_url") or URL).rstrip("/")


def _url(endpoint: Endpoint, one: Object) -> str:
    return f"{_root(endpoint)}/storage/v1/b/{one.bucket}/o/{quote(one.name, safe='')}"


def _is_gone(error: ProviderError) -> bool:
    """Whether the API itself answered 404: a proxy's 404 does not mean that the object is gone."""
    return isinstance(error, ProviderRefused) and error.status == GONE and error.code is not None
