"""The Gemini API's files: uploads in one session, and their state.

https://ai.google.dev/api/files
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input
from manifold.providers.batch_client import BatchClient
from manifold.providers.content import JSON_LINES, of_input
from manifold.providers.failures import failure_within, is_error, read_object
from manifold.providers.google_api import pages
from manifold.providers.http_call import HttpCall

PROCESSING_PAUSES = (0.1, 0.4, 1, 2, 4, 8, 15, 30)
"""Seconds between the checks of an uploaded file, until it is usable."""
PAGE = "100"
NAME = re.compile(r"files/[A-Za-z0-9_.-]{1,200}")
ABSENT = frozenset({403, 404})
"""The statuses of a file that is gone: Google says that we may not see it, or that it does not exist."""


def call(endpoint: Endpoint, path: str, **params: str) -> HttpCall:
    """A call below `/v1beta`."""
    headers = {"x-goog-api-key": endpoint.api_key}
    url = f"{_root(endpoint)}/v1beta/{quote(path, safe='/:')}"
    return HttpCall(url, headers, params, endpoint.timeout, endpoint.model)


class Files:
    """The files of one account. A file is known by its name, `files/…`."""

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    async def upload(self, endpoint: Endpoint, data: Input) -> Mapping[str, Any]:
        """Upload the lines. Returns the file's object, once it is usable or after the last of the pauses."""
        start = HttpCall(
            f"{_root(endpoint)}/upload/v1beta/files",
            {
                "x-goog-api-key": endpoint.api_key,
                "Content-Type": "application/json",
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(data.bytes),
                "X-Goog-Upload-Header-Content-Type": JSON_LINES,
            },
            {},
            endpoint.timeout,
            endpoint.model,
        )
        begun = await self._client.send("POST", start, orjson.dumps({"file": {"display_name": data.name}}))
        address = begun.headers.get("x-goog-upload-url")
        if not address:
            raise ProviderUnclear("no address to upload to")
        headers = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}
        finish = HttpCall(address, headers, {}, endpoint.timeout, endpoint.model)
        answer = await self._client.send("POST", finish, of_input(data), given_by=start)
        body = read_object(answer.body) or {}
        if is_error(body):  # within a 200
            raise failure_within(body, start)
        return await self._usable(endpoint, _file(body.get("file")))

    async def get(self, endpoint: Endpoint, name: str) -> Mapping[str, Any]:
        return _file(await self._client.call("GET", call(endpoint, name)))

    async def delete(self, endpoint: Endpoint, name: str) -> None:
        """No error if the file is gone already."""
        try:
            await self._client.call("DELETE", call(endpoint, name))
        except ProviderRefused as refusal:
            if not await self._says_absent(endpoint, refusal):
                raise

    async def is_absent(self, endpoint: Endpoint, name: str) -> bool:
        """Whether the provider no longer has the file. `False` if that cannot be found out."""
        try:
            await self._client.call("GET", call(endpoint, name))
        except ProviderRefused as refusal:
            return await self._says_absent(endpoint, refusal)
        except ProviderError:
            return False
        return False

    async def is_processing(self, endpoint: Endpoint, name: str) -> bool:
        """Whether the file is not usable yet; `False` if unknown."""
        try:
            return _is_processing(await self.get(endpoint, name))
        except ProviderError:
            return False

    def listed(self, endpoint: Endpoint) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """All files, page by page."""

        async def page(cursor: Mapping[str, str]) -> Mapping[str, Any]:
            return await self._client.call("GET", call(endpoint, "files", pageSize=PAGE, **cursor))

        return pages(page, "files")

    def content(self, endpoint: Endpoint, name: str) -> AsyncIterator[bytes]:
        """The bytes of a file that the provider made."""
        url = f"{_root(endpoint)}/download/v1beta/{quote(name, safe='/')}:download"
        headers = {"x-goog-api-key": endpoint.api_key}
        return self._client.download(HttpCall(url, headers, {"alt": "media"}, endpoint.timeout, endpoint.model))

    async def _usable(self, endpoint: Endpoint, file: Mapping[str, Any]) -> Mapping[str, Any]:
        for pause in PROCESSING_PAUSES:
            if file.get("state") == "FAILED":
                reason = str(file.get("error"))[:200]
                raise ProviderRefused("the provider cannot use the file", raw_detail=reason, lasting=True)
            if not _is_processing(file):
                break
            await asyncio.sleep(pause)
            try:
                file = await self.get(endpoint, file["name"])
            except ProviderError:
                break
        return file

    async def _says_absent(self, endpoint: Endpoint, refusal: ProviderRefused) -> bool:
        """Whether a refusal means that there is no such file, and not that our key may see none."""
        if refusal.status not in ABSENT or refusal.code is None:
            return False
        if refusal.status == 404:
            return True
        try:
            await self._client.call("GET", call(endpoint, "files", pageSize="1"))
        except ProviderError:
            return False
        return True


def _root(endpoint: Endpoint) -> str:
    return endpoint.base_url.rstrip("/").removesuffix("/v1beta")


def _file(body: object) -> Mapping[str, Any]:
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(name, str) or not NAME.fullmatch(name):
        raise ProviderUnclear("an answer without a file")
    return body


def _is_processing(file: Mapping[str, Any]) -> bool:
    return file.get("state") == "PROCESSING"
