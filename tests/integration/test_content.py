"""`/files/{id}/content`: the bytes, a range of them, and the link for files that are too large for one answer."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import requests
from openai import AsyncOpenAI

from manifold import web
from tests.support.events import load
from tests.support.files_app import FilesApp
from tests.support.gateways import MASTER_KEY, sdk
from tests.support.provider import chat_lines
from tests.support.uploads import MIB, Uploader, success_body

pytest_plugins = ("tests.support.files_app_fixtures",)

LINES = chat_lines("gpt-batch", 3)
LARGE = bytes(range(256)) * (4 * MIB // 256) + b"!"


async def content(files_app: FilesApp, file_id: str, method: str = "GET", **headers: str) -> httpx.Response:
    async with files_app.client() as client:
        return await client.request(method, f"/files/{file_id}/content", headers=headers)


async def large_input(files_app: FilesApp) -> str:
    """A file that is one byte larger than an answer can be."""
    async with files_app.client() as client:
        uploader = Uploader(client)
        sent = await uploader.send_parts(LARGE, purpose="user_data", filename="large.bin")
        file_id: str = success_body(await uploader.complete(*sent))["file"]["id"]
    return file_id


async def test_a_file_comes_in_the_answer_under_its_name(files_app: FilesApp) -> None:
    file = await files_app.upload(LINES, name="Anfrage ü.jsonl")

    answer = await content(files_app, file.id)

    assert (answer.status_code, answer.content) == (200, LINES)
    assert answer.headers["content-type"] == "application/octet-stream"  # as at OpenAI
    assert answer.headers["content-length"] == str(len(LINES))
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Anfrage _.jsonl\"; filename*=UTF-8''Anfrage%20%C3%BC.jsonl"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-request-id"]


async def test_a_head_tells_the_same_without_the_bytes(files_app: FilesApp) -> None:
    file = await files_app.upload(LINES)

    head, whole = await content(files_app, file.id, "HEAD"), await content(files_app, file.id)

    assert (head.status_code, head.content) == (200, b"")
    own = "x-request-id"
    assert {**head.headers, own: ""} == {**whole.headers, own: ""}


async def test_content_of_other_files_is_never_a_page_for_a_browser(files_app: FilesApp) -> None:
    file = await files_app.upload(b"<script>", name="a.html", purpose="user_data", target_model_names=None)

    answer = await content(files_app, file.id)

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("written", "expected"),
    [("bytes=10-19", LINES[10:20]), ("bytes=-7", LINES[-7:]), ("bytes=5-", LINES[5:]), ("bytes=0-99999", LINES)],
)
async def test_a_range_of_the_content(files_app: FilesApp, written: str, expected: bytes) -> None:
    file = await files_app.upload(LINES)

    answer = await content(files_app, file.id, range=written)

    assert (answer.status_code, answer.content) == (206, expected)
    start = LINES.index(expected)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(LINES)}"


async def test_a_download_that_broke_off_goes_on_if_the_file_is_the_same(files_app: FilesApp) -> None:
    file, other = await files_app.upload(LINES), await files_app.upload(LINES)
    etag = (await content(files_app, file.id)).headers["etag"]

    rest = await content(files_app, file.id, range="bytes=9-", **{"if-range": etag})
    anew = await content(files_app, other.id, range="bytes=9-", **{"if-range": etag})

    assert (rest.status_code, rest.content) == (206, LINES[9:])
    assert (anew.status_code, anew.content) == (200, LINES)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("tag", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_file_that_the_client_has_is_not_sent_again(files_app: FilesApp, method: str, tag: str) -> None:
    file = await files_app.upload(LINES)
    etag = (await content(files_app, file.id)).headers["etag"]

    answer = await content(files_app, file.id, method, **{"if-none-match": tag.format(etag), "range": "bytes=999-"})

    assert (answer.status_code, answer.content) == (304, b"")
    assert (answer.headers["etag"], answer.headers["cache-control"]) == (etag, "no-store")
    assert not answer.headers.keys() & {"content-type", "content-length", "content-range"}


async def test_a_file_that_the_client_has_not_is_sent(files_app: FilesApp) -> None:
    file = await files_app.upload(LINES)
    etag = (await content(files_app, file.id)).headers["etag"]

    other = await content(files_app, file.id, **{"if-none-match": '"other"', "if-match": etag})
    part = await content(files_app, file.id, **{"if-match": "*", "range": "bytes=5-"})

    assert (other.status_code, other.content) == (200, LINES)
    assert (part.status_code, part.content) == (206, LINES[5:])


@pytest.mark.parametrize("tag", ["W/{}", '"other"'])
async def test_another_file_than_the_required_one_is_a_412(files_app: FilesApp, tag: str) -> None:
    file = await files_app.upload(LINES)
    etag = (await content(files_app, file.id)).headers["etag"]
    required = {"if-match": tag.format(etag), "if-none-match": etag, "range": "bytes=999-"}

    answer, head = [await content(files_app, file.id, method, **required) for method in ("GET", "HEAD")]

    assert (answer.status_code, head.status_code) == (412, 412)
    assert answer.json()["error"]["code"] == "precondition_failed"


async def test_a_file_of_others_is_a_404_whatever_the_conditions_are(files_app: FilesApp) -> None:
    file, key = await files_app.upload(LINES), await files_app.add_key("key_1", models=["gpt-batch"])

    async with files_app.client(key) as client:
        answers = [
            await client.get(f"/files/{file.id}/content", headers=headers)
            for headers in ({"if-none-match": "*"}, {"if-match": '"other"'})
        ]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_conditions_come_through_api_gateway(files_app: FilesApp) -> None:
    file = await files_app.upload(LINES)
    event = load("files.content", file_id=file.id, key=MASTER_KEY)
    event["multiValueHeaders"] |= {"If-None-Match": ['"other"', f'"{file.id}"']}

    answer = await asyncio.to_thread(web.handler(files_app.app), event, None)

    assert (answer["statusCode"], answer["body"]) == (304, "")
    assert answer["headers"]["etag"] == f'"{file.id}"'


async def test_several_ranges_are_answered_by_the_whole(files_app: FilesApp) -> None:
    file = await files_app.upload(LINES)

    answer = await content(files_app, file.id, range="bytes=0-1,5-6")

    assert (answer.status_code, answer.content) == (200, LINES)


async def test_a_range_behind_the_end_is_a_416(files_app: FilesApp) -> None:
    file = await files_app.upload(LINES)

    answer = await content(files_app, file.id, range=f"bytes={len(LINES)}-")

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(LINES)}"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


async def test_a_file_that_no_answer_can_carry_is_behind_a_link(files_app: FilesApp) -> None:
    file_id = await large_input(files_app)

    answer, head = await content(files_app, file_id), await content(files_app, file_id, "HEAD")

    assert (answer.status_code, head.status_code, head.content) == (302, 302, b"")
    assert (await content(files_app, file_id, **{"if-match": '"of S3"', "if-none-match": "*"})).status_code == 302
    assert "follow_redirects" in answer.text
    assert "sk-" not in answer.headers["location"]
    download = await asyncio.to_thread(requests.get, answer.headers["location"], timeout=5)
    assert download.content == LARGE
    assert download.headers["content-type"] == "application/octet-stream"
    assert "large.bin" in download.headers["content-disposition"]
    response = await asyncio.to_thread(requests.head, head.headers["location"], timeout=5, stream=True)
    assert (response.status_code, response.headers["content-length"]) == (200, str(len(LARGE)))


async def test_a_large_file_is_read_by_ranges_without_a_link(files_app: FilesApp) -> None:
    file_id = await large_input(files_app)

    first, rest = [
        await content(files_app, file_id, range=one) for one in (f"bytes=0-{4 * MIB - 1}", f"bytes={4 * MIB}-")
    ]

    part = {"range": "bytes=0-9", "if-none-match": f'"{file_id}"'}
    assert (await content(files_app, file_id, **part)).status_code == 304
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == LARGE
    assert (await content(files_app, file_id, range="bytes=0-")).status_code == 302


async def test_the_largest_answer_fits_into_lambdas(files_app: FilesApp) -> None:
    file = await files_app.upload(b'"' * 4 * MIB, purpose="user_data", target_model_names=None)
    event = load("files.content", file_id=file.id, key=MASTER_KEY)

    answer = await asyncio.to_thread(web.handler(files_app.app), event, None)

    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    assert len(json.dumps(answer)) < 6_291_556


async def test_clients_that_follow_no_redirect_have_the_bytes(files_app: FilesApp, tmp_path: Path) -> None:
    """OpenAI's SDK with an own HTTP client, its raw and its streamed answers, and httpx alone."""
    file = await files_app.upload(LINES)
    transport = httpx2.AsyncClient(transport=httpx2.ASGITransport(files_app.app), follow_redirects=False)
    client = AsyncOpenAI(base_url="http://gateway", api_key=MASTER_KEY, max_retries=0, http_client=transport)

    async with client:
        plain = await client.files.content(file.id)
        raw = await client.files.with_raw_response.content(file.id)
        async with client.files.with_streaming_response.content(file.id) as streamed:
            await streamed.stream_to_file(tmp_path / "streamed.jsonl")
    async with files_app.client() as bare:
        direct = await bare.get(f"/files/{file.id}/content")

    assert plain.content == raw.content == (tmp_path / "streamed.jsonl").read_bytes() == direct.content == LINES
    assert plain.text.splitlines() == LINES.decode().splitlines()
    assert plain.response.headers["content-type"] == "application/binary"  # all that the SDK accepts
    assert plain.response.headers["x-request-id"]


async def test_the_sdk_follows_the_link_of_a_large_file(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    file_id = await large_input(files_app)

    async def elsewhere(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        if request.url.host == "gateway":
            return await httpx2.ASGITransport(files_app.app).handle_async_request(request)
        return httpx2.Response(200, content=LARGE)

    async with sdk(files_app.app) as client:
        ours = httpx2.AsyncClient(transport=httpx2.MockTransport(elsewhere), follow_redirects=True)
        download = await client.with_options(http_client=ours).files.content(file_id)

    assert download.content == LARGE
    assert "authorization" in sent[0].headers
    assert "authorization" not in sent[1].headers
