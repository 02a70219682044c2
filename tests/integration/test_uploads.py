"""`/uploads` over ASGI, on Postgres, S3 and SQS: the create, and the parts."""

from pathlib import Path
from typing import Any

import pytest

from files.file_fields import BATCH_EXPIRY
from tests.support.files_answers import error_of
from tests.support.files_app import FilesApp
from tests.support.gateways import sdk
from tests.support.provider import chat_lines
from tests.support.uploads import MIB, Uploader, assert_no_file, large_input, success_body

pytest_plugins = ("tests.support.upload_fixtures",)

LINES = chat_lines("gpt-batch", 3)


# -- with the SDK -----------------------------------------------------------------------------------------------------


async def test_the_sdk_uploads_a_file_in_parts(files_app: FilesApp, tmp_path: Path) -> None:
    content = large_input()
    path = tmp_path / "my requests.jsonl"
    path.write_bytes(content)
    assert len(content) > 8 * MIB

    async with sdk(files_app.app) as client:
        upload = await client.uploads.upload_file_chunked(
            file=path, mime_type="application/jsonl", purpose="batch", part_size=4 * MIB
        )
        file = await client.files.retrieve(upload.file.id if upload.file else "")

    assert (upload.status, upload.bytes, upload.filename) == ("completed", len(content), path.name)
    assert upload.file == file
    assert (file.bytes, file.status, file.purpose) == (len(content), "processed", "batch")
    assert file.expires_at == file.created_at + BATCH_EXPIRY
    assert files_app.aws.read(f"files/{file.id}") == content
    assert set(await files_app.inputs(file.id)) == {"general", "special"}
    ((report,),) = files_app.sql("SELECT report FROM files")
    assert (report["lines"], report["error_count"], report["bytes"]) == (9000, 0, len(content))


async def test_the_file_goes_to_every_deployment_and_its_parts_go(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES, size=100)
    file = success_body(await uploader.complete(upload_id, part_ids))["file"]

    await files_app.deliver_all()

    assert {row.state for row in (await files_app.inputs(file["id"])).values()} == {"ready"}
    assert files_app.aws.keys() == [f"files/{file['id']}"]
    assert files_app.sql("SELECT due_at FROM uploads") == [(None,)]
    assert files_app.sql("SELECT id FROM upload_parts") == []


async def test_the_sdk_refuses_what_is_not_the_sum_it_sent(files_app: FilesApp) -> None:
    import openai

    async with sdk(files_app.app) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.uploads.upload_file_chunked(
                file=LINES, filename="a.jsonl", bytes=len(LINES), mime_type="x", purpose="batch", md5="0" * 32
            )

    assert (refused.value.code, refused.value.param) == ("md5_mismatch", "md5")
    await assert_no_file(files_app)


@pytest.mark.parametrize("way", ["header", "query", "body", "body list", "lines"])
async def test_the_ways_to_name_the_model_groups(files_app: FilesApp, way: str) -> None:
    names = "gpt-batch,mini-batch"
    async with sdk(files_app.app) as client:
        if way == "header":
            client = client.with_options(default_headers={"x-target-model-names": names})
        if way == "query":
            client = client.with_options(default_query={"target_model_names": names})
        extra: Any = {"body": {"target_model_names": names}, "body list": {"target_model_names": names.split(",")}}
        upload = await client.uploads.create(
            bytes=len(LINES), filename="a.jsonl", mime_type="x", purpose="batch", extra_body=extra.get(way)
        )
        part = await client.uploads.parts.create(upload.id, data=LINES)
        done = await client.uploads.complete(upload.id, part_ids=[part.id])

    assert done.file is not None
    assert done.file.to_dict()["target_model_names"] == (["gpt-batch"] if way == "lines" else names.split(","))


# -- parts ------------------------------------------------------------------------------------------------------------


async def test_parts_out_of_order_and_sent_twice(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id = success_body(await uploader.create(len(LINES)))["id"]
    pieces = [LINES[:100], LINES[100:200], LINES[200:]]
    by_piece: dict[int, str] = {}
    for number in (2, 0, 1, 1, 2):
        by_piece[number] = success_body(await uploader.part(upload_id, pieces[number]))["id"]

    done = success_body(await uploader.complete(upload_id, [by_piece[number] for number in range(3)]))

    assert files_app.aws.read(f"files/{done['file']['id']}") == LINES
    await files_app.deliver_all()
    assert files_app.aws.keys() == [f"files/{done['file']['id']}"]


async def test_the_objects_are_those_of_openai(uploader: Uploader) -> None:
    upload = success_body(await uploader.create(len(LINES)))
    part = success_body(await uploader.part(upload["id"], LINES))

    assert upload.keys() == {
        "id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status", "file",
    }  # fmt: skip
    assert (upload["object"], upload["status"], upload["file"]) == ("upload", "pending", None)
    assert upload["expires_at"] == upload["created_at"] + 3600
    assert upload["id"].startswith("upload_")
    assert part.keys() == {"id", "object", "created_at", "upload_id"}
    assert (part["object"], part["upload_id"]) == ("upload.part", upload["id"])


async def test_a_file_is_not_there_before_it_is_complete(files_app: FilesApp, uploader: Uploader) -> None:
    await uploader.send_parts(LINES)

    ((file_id, status),) = files_app.sql("SELECT id, status FROM files")
    assert status == "uploaded"
    async with files_app.client() as client:
        assert (await client.get("/files")).json()["data"] == []
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert (await client.request(method, f"/files/{file_id}{path}")).status_code == 404


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 400, "empty_part"), (bytes(4 * MIB + 1), 413, "payload_too_large")],
)
async def test_a_part_of_a_wrong_size(uploader: Uploader, content: bytes, status: int, code: str) -> None:
    upload_id = success_body(await uploader.create(100))["id"]

    answer = await uploader.part(upload_id, content)

    assert error_of(answer) == (status, "data", code)
    if status == 413:
        assert "part_size=4*1024*1024" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\ntext and no file\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nother field\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\nhalf a par',
    ],
)
async def test_a_part_that_did_not_come(files_app: FilesApp, uploader: Uploader, body: bytes) -> None:
    upload_id = success_body(await uploader.create(100))["id"]
    async with files_app.client() as client:
        answer = await client.post(
            f"/uploads/{upload_id}/parts", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
        )

    assert error_of(answer)[0] == 400
    assert files_app.aws.keys() == []
    assert files_app.sql("SELECT id FROM upload_parts") == []


# -- create -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"purpose": None}, 400, "purpose", "missing_required_parameter"),
        ({"purpose": "other"}, 400, "purpose", "invalid_value"),
        ({"purpose": "batch_output"}, 400, "purpose", "invalid_value"),
        ({"filename": None}, 400, "filename", "missing_required_parameter"),
        ({"mime_type": None}, 400, "mime_type", "missing_required_parameter"),
        ({"filename": ""}, 400, "filename", "invalid_filename"),
        ({"filename": "../a.jsonl"}, 400, "filename", "invalid_filename"),
        ({"filename": "a\\b.jsonl"}, 400, "filename", "invalid_filename"),
        ({"filename": "a\x00b.jsonl"}, 400, "filename", "invalid_filename"),
        ({"filename": "a\nb.jsonl"}, 400, "filename", "invalid_filename"),
        ({"bytes": 0}, 400, "bytes", "invalid_value"),
        ({"bytes": -1}, 400, "bytes", "invalid_value"),
        ({"bytes": "many"}, 400, "bytes", "invalid_value"),
        ({"bytes": 2048 * MIB + 1}, 413, "bytes", "payload_too_large"),
        ({"bytes": 512 * MIB + 1, "purpose": "user_data"}, 413, "bytes", "payload_too_large"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "expires_after.seconds", "invalid_value"),
        ({"surprise": 1}, 400, "surprise", "unknown_parameter"),
        ({"expires_after": 3600}, 400, "expires_after", "invalid_value"),
        ({"expires_after[seconds]": 3600}, 400, "expires_after[seconds]", "unknown_parameter"),
        ({"target_model_names": 1}, 400, "target_model_names", "invalid_value"),
        ({"target_model_names": "gpt-batch", "model": "mini-batch"}, 400, "model", "contradictory_parameters"),
        ({"model": "nobody"}, 400, "target_model_names", "model_not_found"),
        ({"target_model_names": "nobody"}, 400, "target_model_names", "model_not_found"),
        ({"target_model_names": "a", "purpose": "vision"}, 400, "target_model_names", "invalid_purpose"),
    ],
)
async def test_invalid_uploads_are_refused(
    files_app: FilesApp, uploader: Uploader, fields: dict[str, Any], status: int, param: str, code: str
) -> None:
    assert error_of(await uploader.create(**({"size": 100} | fields))) == (status, param, code)
    assert files_app.sql("SELECT id FROM files") == []


@pytest.mark.parametrize(("purpose", "size"), [("batch", 2048 * MIB), ("user_data", 512 * MIB)])
async def test_the_largest_files_are_taken(uploader: Uploader, purpose: str, size: int) -> None:
    assert success_body(await uploader.create(size, purpose=purpose))["bytes"] == size


async def test_groups_that_the_key_may_not_use(files_app: FilesApp) -> None:
    async with files_app.client(await files_app.add_key("key_1", models=["mini-batch"])) as client:
        uploader = Uploader(client)
        assert error_of(await uploader.create(9, target_model_names="gpt-batch"))[:2] == (403, "target_model_names")
        assert files_app.sql("SELECT id FROM files") == []

        upload_id, part_ids = await uploader.send_parts(LINES)  # whose lines say it
        assert error_of(await uploader.complete(upload_id, part_ids))[2] == "model_access_denied"
        async with files_app.client() as admin:
            assert (await admin.get("/files")).json()["data"] == []


async def test_an_expiry_counts_from_the_completion(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES, expires_after={"anchor": "created_at", "seconds": 3600})
    files_app.sql(
        "UPDATE files SET (created_at, expires_at) = (created_at - interval '1 h', expires_at - interval '1 h')"
    )

    file = success_body(await uploader.complete(upload_id, part_ids))["file"]

    assert file["expires_at"] == file["created_at"] + 3600
    assert file["created_at"] >= success_body(await uploader.create(9))["created_at"] - 60


async def test_an_sdks_retry_gets_the_upload_of_the_first_attempt(uploader: Uploader) -> None:
    first = success_body(await uploader.create(9))
    retry = success_body(await uploader.create(9, headers={"x-stainless-retry-count": "1"}))
    other = success_body(await uploader.create(10, headers={"x-stainless-retry-count": "1"}))

    assert retry == first
    assert other["id"] != first["id"]
