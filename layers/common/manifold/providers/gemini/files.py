"""The Gemini API's files: uploads in one session, and their state.

https://ai.google.dev/api/files
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.provider_errors import is_error
from manifold.providers import Endpoint, Input
from manifold.providers.content import JSON_LINES, of_input
from manifold.providers.failures import failure_within, read_object
from manifold.providers.gemini.calls import Calls, to, translated
from manifold.providers.google_api import pages
from manifold.providers.http_call import HttpCall

PROCESSING_PAUSES = (0.1, 0.4, 1, 2, 4, 8, 15, 30)
"""Seconds between the checks of an uploaded file, until it is usable."""
PAGE = "100"
NAME = re.compile(r"files/[A-Za-z0-9_.-]{1,200}")
UNSEEN = re.compile("may not exist", re.IGNORECASE)
"""In the message of a 403: what Google says of a file that is gone, or another project's."""


class Files:
    """The files of one account. A file is known by its name, `files/…`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def upload(self, endpoint: Endpoint, data: Input) -> Mapping[str, Any]:
        """Upload the lines. Returns the file's object, once it is usable or after the last of the pauses."""
        headers = {
            "Content-Type": "application/json",
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(data.bytes),
            "X-Goog-Upload-Header-Content-Type": JSON_LINES,
        }
        start = to(endpoint, "/upload/v1beta/files", headers=headers)
        with translated():
            begun = await self._calls.client.send("POST", start, orjson.dumps({"file": {"display_name": data.name}}))
        address = begun.headers.get("x-goog-upload-url")
        if not address:
            raise ProviderUnclear("no address to upload to")
        headers = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}
        finish = HttpCall(address, headers, {}, endpoint.timeout, endpoint.model)
        answer = await self._calls.client.send("POST", finish, of_input(data), given_by=start)
        body = read_object(answer.body) or {}
        if is_error(body):  # within a 200
            raise failure_within(body, start)
        return await self._usable(endpoint, _file(body.get("file")))

    async def get(self, endpoint: Endpoint, name: str) -> Mapping[str, Any]:
        return _file(await self._calls.json("GET", endpoint, name))

    async def delete(self, endpoint: Endpoint, name: str) -> None:
        """No error if the file is gone already."""
        try:
            await self._calls.json("DELETE", endpoint, name)
        except ProviderRefused as refusal:
            if not _says_absent(refusal):
                raise

    async def is_absent(self, endpoint: Endpoint, name: str) -> bool:
        """Whether the provider no longer has the file. `False` if that cannot be found out."""
        try:
            await self._calls.json("GET", endpoint, name)
        except ProviderError as error:
            return _says_absent(error)
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
            return await self._calls.json("GET", endpoint, "files", params={"pageSize": PAGE, **cursor})

        return pages(page, "files")

    async def content(self, endpoint: Endpoint, name: str) -> AsyncIterator[bytes]:
        """The bytes of a file that the provider made."""
        with translated():
            async for chunk in self._calls.client.download(
                to(endpoint, f"/download/v1beta/{name}:download", {"alt": "media"})
            ):
                yield chunk

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


def _file(body: object) -> Mapping[str, Any]:
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(name, str) or not NAME.fullmatch(name):
        raise ProviderUnclear("an answer without a file")
    return body


def _is_processing(file: Mapping[str, Any]) -> bool:
    return file.get("state") == "PROCESSING"


def _says_absent(error: ProviderError) -> bool:
    """Whether there is no such file. A proxy's 404 does not mean that."""
    if not isinstance(error, ProviderRefused) or error.code is None:
        return False
    return error.status == 404 or (error.status == 403 and bool(UNSEEN.search(error.raw_detail or "")))
