"""`/uploads` as clients use it: announce a file, send its parts, and have them made a file."""

from collections.abc import Sequence
from typing import Any

import httpx

from manifold.queue import Message
from tests.support.files_app import FilesApp
from tests.support.provider import chat_line

MIB = 1024 * 1024


class Uploader:
    """A client of `/uploads`; each method returns the answer, whatever its status."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def create(self, size: int, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"filename": "in.jsonl", "purpose": "batch", "mime_type": "application/jsonl", "bytes": size} | fields
        body = {name: value for name, value in body.items() if value is not None}
        return await self._client.post("/uploads", json=body, headers=headers)

    async def part(self, upload_id: str, content: bytes) -> httpx.Response:
        return await self._client.post(f"/uploads/{upload_id}/parts", files={"data": ("part", content)})

    async def complete(self, upload_id: str, part_ids: Sequence[str], **fields: Any) -> httpx.Response:
        return await self._client.post(f"/uploads/{upload_id}/complete", json={"part_ids": list(part_ids)} | fields)

    async def cancel(self, upload_id: str) -> httpx.Response:
        return await self._client.post(f"/uploads/{upload_id}/cancel")

    async def send_parts(self, content: bytes, size: int = 4 * MIB, **fields: Any) -> tuple[str, list[str]]:
        """Create an upload and send its parts in order. Returns its id and theirs."""
        upload_id = success_body(await self.create(len(content), **fields))["id"]
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        return upload_id, [success_body(await self.part(upload_id, piece))["id"] for piece in pieces]


def success_body(answer: httpx.Response) -> Any:
    """The body of the answer, which must be a success."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def large_input(lines: int = 9000, size: int = 1000) -> bytes:
    """Lines, some of which are cut at the end of a part."""
    return b"".join(chat_line("gpt-batch", f"request-{number}", "ä" * (size // 6)) for number in range(lines))


async def assert_no_file(files_app: FilesApp) -> None:
    async with files_app.client() as client:
        assert (await client.get("/files")).json()["data"] == []
    assert files_app.aws.keys("files/") == []
    assert files_app.sql("SELECT id FROM inputs") == []
    assert files_app.aws.open_uploads() == 0


async def run_upload_schedule(files_app: FilesApp) -> None:
    """Let an hour pass, and do what the schedule does with uploads."""
    files_app.age(3601)
    async with files_app.gateway.store.session() as tables:
        await tables.uploads.expire(10)
    files_app.age(16)
    async with files_app.gateway.store.session() as tables:
        due = await tables.uploads.due(10)
    for upload_id in due:
        await files_app.deliver(Message("upload", upload_id))
