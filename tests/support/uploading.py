"""`/uploads` as clients use it: announce a file, send its parts, and have them made a file."""

from collections.abc import Sequence
from typing import Any

import httpx

MIB = 1024 * 1024


class Uploader:
    """One client of `/uploads`, whose answers are given back as they come."""

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

    async def sent(self, content: bytes, size: int = 4 * MIB, **fields: Any) -> tuple[str, list[str]]:
        """An upload whose parts have all come, in order: its id and theirs."""
        upload_id = taken(await self.create(len(content), **fields))["id"]
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        return upload_id, [taken(await self.part(upload_id, piece))["id"] for piece in pieces]


def taken(answer: httpx.Response) -> Any:
    """The body of an answer that is a success."""
    assert answer.status_code == 200, answer.text
    return answer.json()
