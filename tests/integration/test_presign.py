"""Files uploaded by a presigned PUT, and links to their content, without an SDK."""

import hashlib
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import requests

from files import upload_completion
from files.finishing import Finishing
from manifold.errors import Unavailable
from tests.support.files_answers import error_of
from tests.support.files_app import FilesApp
from tests.support.gateways import MASTER_KEY
from tests.support.provider import chat_lines
from tests.support.uploads import MIB, success_body

pytest_plugins = ("tests.support.files_app_fixtures",)

LINES = chat_lines("gpt-batch", 3)


async def presign(files_app: FilesApp, key: str = MASTER_KEY, **fields: Any) -> httpx.Response:
    body = {"filename": "in.jsonl", "purpose": "batch", "bytes": len(LINES)} | fields
    async with files_app.client(key) as client:
        return await client.post("/files/presign", json={name: one for name, one in body.items() if one is not None})


async def complete(files_app: FilesApp, file_id: str, key: str = MASTER_KEY, **fields: Any) -> httpx.Response:
    async with files_app.client(key) as client:
        return await client.post(f"/files/{file_id}/complete", json=fields or None)


def put(url: str, content: bytes) -> None:
    assert requests.put(url, data=content, timeout=10).status_code == 200


async def test_a_file_is_uploaded_by_one_put(files_app: FilesApp) -> None:
    link = success_body(await presign(files_app))
    put(link["url"], LINES)

    file = success_body(await complete(files_app, link["id"]))

    assert (file["id"], file["status"], file["bytes"], file["filename"]) == (
        link["id"], "processed", len(LINES), "in.jsonl",
    )  # fmt: skip
    assert files_app.aws.read(f"files/{file['id']}") == LINES
    await files_app.deliver_all()
    assert {row.state for row in (await files_app.inputs(file["id"])).values()} == {"ready"}
    assert files_app.aws.keys() == [f"files/{file['id']}"]
    assert success_body(await complete(files_app, link["id"]))["id"] == file["id"]


async def test_the_link_takes_what_was_announced_and_no_more(files_app: FilesApp) -> None:
    link = success_body(await presign(files_app, bytes=2048 * MIB))

    query = parse_qs(urlsplit(link["url"]).query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert query["X-Amz-Expires"] == ["3600"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert (link["method"], link["headers"]) == ("PUT", {"Content-Length": str(2048 * MIB)})
    assert link["expires_at"] == link["created_at"] + 3600


async def test_a_later_put_does_not_change_the_file(files_app: FilesApp) -> None:
    link = success_body(await presign(files_app))
    put(link["url"], LINES)
    file = success_body(await complete(files_app, link["id"]))

    put(link["url"], LINES[::-1])

    assert files_app.aws.read(f"files/{file['id']}") == LINES
    assert success_body(await complete(files_app, link["id"]))["id"] == file["id"]
    assert files_app.aws.read(f"files/{file['id']}") == LINES


async def test_a_complete_takes_what_was_put_last(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chat_lines("gpt-batch", 3)
    last = first.replace(b"request-0", b"REQUEST-0")
    link = success_body(await presign(files_app, bytes=len(first)))
    put(link["url"], first)
    with monkeypatch.context() as broken:
        broken.setattr(Finishing, "finish", AsyncMock(side_effect=Unavailable("Try again shortly.")))
        assert (await complete(files_app, link["id"])).status_code == 503
    put(link["url"], last)
    assert success_body(await complete(files_app, link["id"]))["status"] == "processed"
    assert files_app.aws.read(f"files/{link['id']}") == last


async def test_refused_bytes_can_be_put_again(files_app: FilesApp) -> None:
    key = await files_app.add_key("key_1", models=["gpt-batch"])
    wrong, right = chat_lines("mini-batch", 3), chat_lines("gpt-batch", 3).replace(b"\n", b" \n")
    link = success_body(await presign(files_app, key, bytes=len(right)))
    put(link["url"], wrong)
    assert error_of(await complete(files_app, link["id"], key))[::2] == (403, "model_access_denied")
    put(link["url"], right)
    assert success_body(await complete(files_app, link["id"], key))["status"] == "processed"


@pytest.mark.parametrize(
    ("put_first", "md5", "param", "code"),
    [(None, None, "file_id", "content_missing"), (LINES[1:], None, "file_id", "bytes_mismatch"),
     (LINES, "0" * 32, "md5", "md5_mismatch")],
)  # fmt: skip
async def test_uploaded_bytes_that_differ_are_refused(
    files_app: FilesApp, put_first: bytes | None, md5: str | None, param: str, code: str
) -> None:
    link = success_body(await presign(files_app))
    if put_first is not None:
        put(link["url"], put_first)

    assert error_of(await complete(files_app, link["id"], **({"md5": md5} if md5 else {}))) == (400, param, code)

    assert files_app.aws.keys("files/") == []
    put(link["url"], LINES)
    assert (
        success_body(await complete(files_app, link["id"], md5=hashlib.md5(LINES).hexdigest()))["status"] == "processed"
    )


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"bytes": None}, 400, "missing_required_parameter"),
        ({"bytes": 2048 * MIB + 1}, 413, "payload_too_large"),
        ({"bytes": 512 * MIB + 1, "purpose": "user_data"}, 413, "payload_too_large"),
        ({"filename": "../a"}, 400, "invalid_filename"),
        ({"purpose": "batch_output"}, 400, "invalid_value"),
        ({"target_model_names": "nobody"}, 400, "model_not_found"),
    ],
)
async def test_invalid_announcements_are_refused(
    files_app: FilesApp, fields: dict[str, Any], status: int, code: str
) -> None:
    assert error_of(await presign(files_app, **fields))[::2] == (status, code)
    assert files_app.sql("SELECT id FROM files") == []


async def test_the_file_of_another_owner_is_not_found(files_app: FilesApp) -> None:
    link = success_body(await presign(files_app))
    put(link["url"], LINES)
    other = await files_app.add_key("key_1")

    for file_id in (link["id"], "file-none"):
        assert error_of(await complete(files_app, file_id, other)) == (404, "id", "file_not_found")


async def test_a_link_expires_after_an_hour(files_app: FilesApp) -> None:
    link = success_body(await presign(files_app))
    put(link["url"], LINES)
    files_app.age(3601)

    assert error_of(await complete(files_app, link["id"]))[2] == "upload_expired"


async def test_a_large_file_is_completed_by_the_worker(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_completion, "INLINE_BYTES", 0)
    monkeypatch.setattr(upload_completion, "WAIT_SECONDS", 0.0)
    link = success_body(await presign(files_app))
    put(link["url"], LINES)

    pending = success_body(await complete(files_app, link["id"]))
    assert (pending["id"], pending["status"], pending["inputs"]) == (link["id"], "uploaded", [])
    await files_app.deliver_all()
    assert (await files_app.file(link["id"])).status == "processed"
    await files_app.deliver_all()
    assert success_body(await complete(files_app, link["id"]))["status"] == "processed"
