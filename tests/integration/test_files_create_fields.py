"""The form of `POST /files`: its fields, `expires_after`, LiteLLM's fields, and forms that are refused."""

import io
import json
from typing import Any

import httpx
import pytest

from manifold.create_body import LITELLM
from tests.support.files_answers import LINES, assert_nothing_kept, error_of
from tests.support.files_app import FilesApp
from tests.support.gateways import sdk

pytest_plugins = ("tests.support.files_app_fixtures",)


@pytest.mark.parametrize("seconds", [3600, 2_592_000])
async def test_an_expiry_is_kept(files_app: FilesApp, seconds: int) -> None:
    async with sdk(files_app.app) as client:
        file = await client.files.create(
            file=("input.jsonl", LINES), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
        )

    assert file.expires_at == file.created_at + seconds


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"purpose": None}, "purpose", "missing_required_parameter"),
        ({"purpose": "batch_output"}, "purpose", "invalid_value"),
        ({"purpose": "assistants_output"}, "purpose", "invalid_value"),
        ({"purpose": "fine-tune-results"}, "purpose", "invalid_value"),
        ({"purpose": "other"}, "purpose", "invalid_value"),
        ({"purpose": "vision"}, "target_model_names", "invalid_purpose"),
        ({"expires_after[anchor]": "created_at"}, "expires_after", "invalid_value"),
        ({"expires_after[seconds]": "3600"}, "expires_after", "invalid_value"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after", "invalid_value"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "59"}, "expires_after", "invalid_value"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "x"}, "expires_after", "invalid_value"),
        ({"expires_after": "3600"}, "expires_after", "invalid_value"),
        ({"expires_after": ""}, "expires_after", "invalid_value"),
        ({"expires_after": "{"}, "expires_after", "invalid_value"),
        ({"expires_after": '{"seconds": 3600}'}, "expires_after", "invalid_value"),
        ({"expires_after.seconds": "3600"}, "expires_after", "invalid_value"),
        ({"expires_after[seconds]": ""}, "expires_after", "invalid_value"),
        ({"expires_after[days]": "3"}, "expires_after", "invalid_value"),
        ({"expires_after[seconds][0]": "3600"}, "expires_after[seconds][0]", "unknown_parameter"),
        ({"expires_after_seconds": "3600"}, "expires_after_seconds", "unknown_parameter"),
        ({"expires_after": ["{}", "{}"]}, "expires_after", "duplicate_parameter"),
        ({"expires_after": "3600", "expires_after[seconds]": "3600"}, "expires_after[seconds]", "duplicate_parameter"),
        ({"purpose": ["batch", "batch"]}, "purpose", "duplicate_parameter"),
        ({"surprise": "1"}, "surprise", "unknown_parameter"),
        ({"purpose[0]": "batch"}, "purpose[0]", "unknown_parameter"),
        ({"target_model_names[a]": "gpt-batch"}, "target_model_names[a]", "unknown_parameter"),
        ({"target_model_names": "[1]"}, "target_model_names", "invalid_value"),
        ({"target_model_names": '["gpt-batch"'}, "target_model_names", "invalid_value"),
        ({"target_model_names": None, "model": "none-such"}, "target_model_names", "model_not_found"),
        ({"model": "mini-batch"}, "model", "contradictory_parameters"),
        ({"model": ["gpt-batch", "mini-batch"]}, "model", "contradictory_parameters"),
        ({"name": "../../etc/passwd"}, "file", "invalid_filename"),
        ({"name": "a\\b.jsonl"}, "file", "invalid_filename"),
        ({"name": ".."}, "file", "invalid_filename"),
        ({"name": "a" * 256}, "file", "invalid_filename"),
    ],
)
async def test_a_bad_field_is_refused(files_app: FilesApp, fields: dict[str, Any], param: str, code: str) -> None:
    assert error_of(await files_app.post(**fields)) == (400, param, code)
    await assert_nothing_kept(files_app)


@pytest.mark.parametrize(
    "spelled",
    [
        {"expires_after": '{"anchor": "created_at", "seconds": 7200}'},
        {"expires_after.anchor": "created_at", "expires_after.seconds": "7200"},
        {"expires_after[anchor]": "created_at", "expires_after.seconds": "7200"},
    ],
)
async def test_an_expiry_in_other_spellings_is_understood(files_app: FilesApp, spelled: dict[str, Any]) -> None:
    file = await files_app.upload(**spelled)

    assert file.expires_at == file.created_at + 7200


async def test_an_unknown_field_is_named_beside_those_that_are_known(files_app: FilesApp) -> None:
    misspelt: Any = {"expire_after[seconds]": "3600"}

    answer = await files_app.post(**misspelt)

    assert answer.json()["error"]["message"] == (
        "Unknown parameter: 'expire_after[seconds]'. "
        "The parameters here are file, purpose, expires_after, target_model_names, model."
    )


@pytest.mark.parametrize("field", ["expires_after[seconds]", "expires-after", "expiresAfter", "EXPIRES_AFTER"])
async def test_a_field_in_the_query_is_refused(files_app: FilesApp, field: str) -> None:
    async with files_app.client() as client:
        answer = await client.post(
            f"/files?{field}=3600", data={"purpose": "batch"}, files={"file": ("in.jsonl", LINES)}
        )

    assert error_of(answer) == (400, field, "unknown_parameter")
    await assert_nothing_kept(files_app)


async def test_a_text_that_was_sent_as_a_file_is_refused(files_app: FilesApp) -> None:
    async with files_app.client() as client:
        answer = await client.post("/files", files={"file": ("in.jsonl", LINES), "purpose": ("p.txt", b"batch")})

    assert error_of(answer) == (400, "purpose", "invalid_value")


async def test_fields_of_litellms_own_proxy_are_ignored(files_app: FilesApp) -> None:
    own: Any = {name: "x" for name in LITELLM} | {"litellm_metadata[tags][0]": "nightly", "tags[]": "nightly"}

    file = await files_app.upload(**own)

    assert file.target_model_names == ["gpt-batch"]


@pytest.mark.parametrize(
    ("query", "headers", "fields"),
    [
        ("", {"x-litellm-model": "mini-batch"}, {}),
        ("?model=mini-batch", {}, {}),
        ("", {}, {"model": "mini-batch"}),
        ("?model=mini-batch", {"x-litellm-model": "mini-batch"}, {"target_model_names[0]": "mini-batch"}),
        ("?target_model_names[0]=mini-batch", {}, {}),
        ("", {"x-target-model-names": '["mini-batch"]'}, {}),
    ],
)
async def test_litellms_ways_to_name_the_model(
    files_app: FilesApp, query: str, headers: dict[str, str], fields: dict[str, str]
) -> None:
    async with files_app.client() as client:
        answer = await client.post(
            f"/files{query}", headers=headers, data={"purpose": "batch"} | fields, files={"file": ("in.jsonl", LINES)}
        )

    assert answer.json()["target_model_names"] == ["mini-batch"]


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?model=mini-batch", {"x-litellm-model": "gpt-batch"}),
        ("?model=mini-batch", {"x-target-model-names": "gpt-batch,mini-batch"}),
        ("?model=mini-batch&model=gpt-batch", {}),
    ],
)
async def test_models_that_contradict_each_other_are_refused(
    files_app: FilesApp, query: str, headers: dict[str, str]
) -> None:
    async with files_app.client() as client:
        answer = await client.post(
            f"/files{query}", headers=headers, data={"purpose": "batch"}, files={"file": ("in.jsonl", LINES)}
        )

    assert error_of(answer) == (400, "model", "contradictory_parameters")
    await assert_nothing_kept(files_app)


async def test_a_name_with_control_characters_is_refused(files_app: FilesApp) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"'
    form = part % b"purpose" + b"\r\n\r\nbatch\r\n" + part % b"file" + b'; filename="a\x01b.jsonl"\r\n\r\nx\r\n--b--'

    async with files_app.client() as client:
        answer = await client.post("/files", headers={"content-type": "multipart/form-data; boundary=b"}, content=form)

    assert error_of(answer) == (400, "file", "invalid_filename")


@pytest.mark.parametrize(
    "request_parts",
    [
        {},
        {"json": {"purpose": "batch"}},
        {"data": {"purpose": "batch", "file": "not a file"}},
        {"files": {"purpose": (None, "batch"), "file": (None, "not a file")}},
    ],
)
async def test_a_create_without_a_file_is_refused(files_app: FilesApp, request_parts: dict[str, Any]) -> None:
    async with files_app.client() as client:
        answer = await client.post("/files", **request_parts)

    assert answer.status_code == 400
    assert error_of(answer)[2] == "missing_required_parameter"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("multipart/form-data", b"x"), ("multipart/form-data; boundary=b", b"--b\r\nnonsense"), ("text/plain", b"x")],
)
async def test_a_form_that_cannot_be_read_is_refused(files_app: FilesApp, content_type: str, body: bytes) -> None:
    async with files_app.client() as client:
        answer = await client.post("/files", headers={"content-type": content_type}, content=body)

    assert error_of(answer)[0] == 400
    await assert_nothing_kept(files_app)


async def test_a_file_that_is_too_large_for_one_request_is_referred_to_uploads(files_app: FilesApp) -> None:
    answer = await files_app.post(bytes(4 * 1024 * 1024 + 1))

    assert error_of(answer) == (413, "file", "payload_too_large")
    assert "upload_file_chunked" in answer.text
    assert "part_size=4*1024*1024" in answer.text
    assert "POST /files/presign" in answer.text
    await assert_nothing_kept(files_app)


async def test_an_empty_file_is_refused(files_app: FilesApp) -> None:
    assert error_of(await files_app.post(b"")) == (400, "file", "empty_file")
    await assert_nothing_kept(files_app)


async def test_a_file_of_the_largest_size_is_taken(files_app: FilesApp) -> None:
    file = await files_app.upload(bytes(4 * 1024 * 1024), purpose="user_data", target_model_names=None)

    assert file.bytes == 4 * 1024 * 1024


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Starlette leaves the file to the GC
async def test_an_interrupted_form_leaves_nothing(files_app: FilesApp) -> None:
    form = httpx.Request("POST", "http://x", data={"purpose": "batch"}, files={"file": io.BytesIO(LINES)})
    body = form.read()[:-200]

    async with files_app.client() as client:
        answer = await client.post("/files", headers={"content-type": form.headers["content-type"]}, content=body)

    assert answer.status_code == 400
    json.loads(answer.text)["error"]
    await assert_nothing_kept(files_app)
