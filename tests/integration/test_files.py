"""`/files` over ASGI, on Postgres, S3 and SQS: what is taken, what is refused, and what a caller then sees."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from files.fields import BATCH_EXPIRY
from manifold.members import LITELLM
from manifold.queue import Message
from manifold.schemas import File
from manifold.storage import Storage
from manifold.store.teams import Team
from manifold.store.users import User
from tests.support.files_app import SPECIAL, FilesApp
from tests.support.gateways import sdk
from tests.support.provider import chat_line, chat_lines

pytest_plugins = ("tests.support.files_app_fixtures",)

LINES = chat_lines("gpt-batch", 3)


def error(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, `param` and code of a refusal, whose body has OpenAI's shape."""
    body = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer.status_code, body["param"], body["code"]


async def listed(files_app: FilesApp, key: str | None = None, **query: Any) -> list[str]:
    """The names of the files in a list."""
    async with files_app.client(key) if key else files_app.client() as client:
        answer = await client.get("/files", params=query)
    assert answer.status_code == 200, answer.text
    return [file["filename"] for file in answer.json()["data"]]


async def assert_nothing_kept(files_app: FilesApp) -> None:
    assert files_app.aws.keys() == []
    assert files_app.aws.take(files_app.aws.transfers_queue_url) == []
    assert files_app.sql("SELECT id FROM files") == []


# -- create -----------------------------------------------------------------------------------------------------------


async def test_the_sdk_uploads_a_file_once_for_every_deployment_of_its_group(
    files_app: FilesApp, tmp_path: Path
) -> None:
    path = tmp_path / "my requests.jsonl"
    path.write_bytes(LINES)

    async with sdk(files_app.app) as client:
        file = await client.files.create(file=path, purpose="batch", extra_body={"target_model_names": "gpt-batch"})

    assert (file.filename, file.bytes, file.purpose, file.status) == (path.name, len(LINES), "batch", "processed")
    assert file.expires_at == file.created_at + BATCH_EXPIRY
    assert files_app.aws.read(f"files/{file.id}") == LINES
    inputs = await files_app.inputs(file.id)
    assert set(inputs) == {"general", "special"}
    sent = files_app.aws.take(files_app.aws.transfers_queue_url)
    assert sorted(sent, key=lambda message: message.id) == sorted(
        (Message("input", one.id) for one in inputs.values()), key=lambda message: message.id
    )


async def test_the_file_says_how_its_inputs_stand(files_app: FilesApp) -> None:
    file = await files_app.upload()

    assert file.target_model_names == ["gpt-batch"]
    assert file.inputs is not None
    assert [(one.deployment, one.model, one.state, one.error) for one in file.inputs] == [
        ("general", "gpt-batch", "pending", None),
        ("special", "gpt-batch", "pending", None),
    ]
    assert await files_app.file(file.id) == file


@pytest.mark.parametrize(
    "spelled",
    [
        {"target_model_names": "gpt-batch,mini-batch"},
        {"target_model_names": " gpt-batch , mini-batch,, gpt-batch"},
        {"target_model_names": ["gpt-batch", "mini-batch"]},
        {"target_model_names[]": ["gpt-batch", "mini-batch"], "target_model_names": None},
        {"target_model_names[0]": "gpt-batch", "target_model_names[1]": "mini-batch", "target_model_names": None},
        {"target_model_names": '["gpt-batch", "mini-batch"]'},
        {"target_model_names[0]": "gpt-batch", "target_model_names": "mini-batch,gpt-batch"},
    ],
)
async def test_target_model_names_in_every_spelling_of_a_form(files_app: FilesApp, spelled: dict[str, Any]) -> None:
    file = await files_app.upload(**spelled)

    assert sorted(file.target_model_names or ()) == ["gpt-batch", "mini-batch"]
    assert set(await files_app.inputs(file.id)) == {"general", "special", "mini"}


async def test_target_model_names_by_the_sdks_other_ways(files_app: FilesApp) -> None:
    lines = ("input.jsonl", LINES)
    names = ["gpt-batch", "mini-batch"]
    async with sdk(files_app.app) as client:
        by_list = await client.files.create(file=lines, purpose="batch", extra_body={"target_model_names": names})
        by_query = await client.files.create(file=lines, purpose="batch", extra_query={"target_model_names": names})
        by_header = await client.files.create(
            file=lines, purpose="batch", extra_headers={"x-target-model-names": "gpt-batch, mini-batch"}
        )

    for file in (by_list, by_query, by_header):
        assert (await files_app.file(file.id)).target_model_names == names


async def test_without_target_model_names_the_lines_name_the_group(files_app: FilesApp) -> None:
    file = await files_app.upload(chat_lines("mini-batch", 2), target_model_names=None)

    assert file.target_model_names == ["mini-batch"]
    assert set(await files_app.inputs(file.id)) == {"mini"}


async def test_a_keys_alias_stands_for_its_group(files_app: FilesApp) -> None:
    key = await files_app.add_key("key_1", aliases={"small": "mini-batch"})

    by_field = await files_app.upload(chat_lines("small", 2), key=key, target_model_names="small")
    by_lines = await files_app.upload(chat_lines("small", 2), key=key, target_model_names=None)

    assert by_field.target_model_names == by_lines.target_model_names == ["mini-batch"]
    assert set(await files_app.inputs(by_lines.id)) == {"mini"}


@pytest.mark.parametrize(
    ("names", "status", "code"),
    [("none-such", 400, "model_not_found"), ("lab/chat", 400, "model_not_batchable")],
)
async def test_a_group_that_runs_no_batches_is_refused(files_app: FilesApp, names: str, status: int, code: str) -> None:
    answer = await files_app.post(target_model_names=f"gpt-batch,{names}")

    assert error(answer) == (status, "target_model_names", code)
    assert names in answer.text
    await assert_nothing_kept(files_app)


async def test_a_group_that_the_key_may_not_use_is_refused(files_app: FilesApp) -> None:
    key = await files_app.add_key("key_1", models=["mini-batch"])

    by_field = await files_app.post(key=key, target_model_names="gpt-batch")
    by_lines = await files_app.post(key=key, target_model_names=None)

    assert error(by_field) == (403, "target_model_names", "model_access_denied")
    assert error(by_lines) == (403, "model", "model_access_denied")
    await assert_nothing_kept(files_app)


@pytest.mark.parametrize(
    "content",
    [b"\r\n", b"no json\n", chat_line("gpt-batch", "a") * 2, chat_line("a", "1") + chat_line("b", "2"), b"\xff\xfe"],
)
async def test_a_file_with_bad_lines_is_kept_and_goes_nowhere(files_app: FilesApp, content: bytes) -> None:
    file = await files_app.upload(content)

    assert file.status == "processed"
    assert file.inputs == []
    assert files_app.aws.take(files_app.aws.transfers_queue_url) == []


@pytest.mark.parametrize("model", ["gpt-4o-mini-2024-07-18", "gpt-batch", "lab/chat", "small"])
async def test_lines_of_one_model_go_to_the_groups_that_are_named_whatever_it_is(
    files_app: FilesApp, model: str
) -> None:
    """`gpt-batch` is a group that this key may not use: nothing of it is used."""
    key = await files_app.add_key("key_1", models=["mini-batch"], aliases={"small": "mini-batch"})

    file = await files_app.upload(chat_lines(model, 3), target_model_names="mini-batch", key=key)
    await files_app.deliver_all()

    assert file.target_model_names == ["mini-batch"]
    assert {name: one.state for name, one in (await files_app.inputs(file.id)).items()} == {"mini": "ready"}
    assert [sent["models"] for sent in files_app.provider.log(SPECIAL.name, "files.create")] == [("mini-model",)]


async def test_lines_of_several_models_are_bad_whatever_groups_are_named(files_app: FilesApp) -> None:
    content = chat_line("none-such", "1") + chat_line("gpt-batch", "2")

    file = await files_app.upload(content, target_model_names="gpt-batch")

    ((report,),) = files_app.sql("SELECT report FROM files")
    assert [(one["line"], one["code"]) for one in report["errors"]] == [(1, "model_not_found"), (2, "model_mismatch")]
    assert await files_app.inputs(file.id) == {}


async def test_a_line_without_a_model_is_bad_whatever_groups_are_named(files_app: FilesApp) -> None:
    file = await files_app.upload(chat_line("other", "1") + chat_line("other", "2").replace(b'"model"', b'"mode"'))

    ((report,),) = files_app.sql("SELECT report FROM files")
    assert [(one["line"], one["param"]) for one in report["errors"]] == [(2, "body.model")]
    assert await files_app.inputs(file.id) == {}


@pytest.mark.parametrize("model", ["none-such", "lab/chat"])
async def test_lines_whose_model_no_group_serves_are_bad(files_app: FilesApp, model: str) -> None:
    file = await files_app.upload(chat_lines(model, 3), target_model_names=None)

    ((report,),) = files_app.sql("SELECT report FROM files")
    assert [(one["line"], one["code"], one["param"]) for one in report["errors"]] == [
        (line, "model_not_found", "body.model") for line in (1, 2, 3)
    ]
    assert report["error_count"] == 3
    assert model in report["errors"][0]["message"]
    assert await files_app.inputs(file.id) == {}


@pytest.mark.parametrize("purpose", ["assistants", "evals", "fine-tune", "user_data", "vision"])
async def test_files_of_other_purposes_are_kept_as_they_are(files_app: FilesApp, purpose: str) -> None:
    file = await files_app.upload(b"anything", purpose=purpose, target_model_names=None, name="a.pdf")

    assert (file.purpose, file.inputs, file.target_model_names, file.expires_at) == (purpose, None, None, None)
    assert files_app.aws.read(f"files/{file.id}") == b"anything"


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
    assert error(await files_app.post(**fields)) == (400, param, code)
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
async def test_a_field_in_the_query_is_not_overlooked(files_app: FilesApp, field: str) -> None:
    async with files_app.client() as client:
        answer = await client.post(
            f"/files?{field}=3600", data={"purpose": "batch"}, files={"file": ("in.jsonl", LINES)}
        )

    assert error(answer) == (400, field, "unknown_parameter")
    await assert_nothing_kept(files_app)


async def test_a_text_that_was_sent_as_a_file_is_refused(files_app: FilesApp) -> None:
    async with files_app.client() as client:
        answer = await client.post("/files", files={"file": ("in.jsonl", LINES), "purpose": ("p.txt", b"batch")})

    assert error(answer) == (400, "purpose", "invalid_value")


async def test_what_litellm_sends_to_its_own_proxy_is_passed_over(files_app: FilesApp) -> None:
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

    assert error(answer) == (400, "model", "contradictory_parameters")
    await assert_nothing_kept(files_app)


async def test_a_name_with_control_characters_is_refused(files_app: FilesApp) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"'
    form = part % b"purpose" + b"\r\n\r\nbatch\r\n" + part % b"file" + b'; filename="a\x01b.jsonl"\r\n\r\nx\r\n--b--'

    async with files_app.client() as client:
        answer = await client.post("/files", headers={"content-type": "multipart/form-data; boundary=b"}, content=form)

    assert error(answer) == (400, "file", "invalid_filename")


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
    assert error(answer)[2] == "missing_required_parameter"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("multipart/form-data", b"x"), ("multipart/form-data; boundary=b", b"--b\r\nnonsense"), ("text/plain", b"x")],
)
async def test_a_form_that_cannot_be_read_is_refused(files_app: FilesApp, content_type: str, body: bytes) -> None:
    async with files_app.client() as client:
        answer = await client.post("/files", headers={"content-type": content_type}, content=body)

    assert error(answer)[0] == 400
    await assert_nothing_kept(files_app)


async def test_a_file_that_is_too_large_for_one_request_is_told_the_way(files_app: FilesApp) -> None:
    answer = await files_app.post(bytes(4 * 1024 * 1024 + 1))

    assert error(answer) == (413, "file", "payload_too_large")
    assert "upload_file_chunked" in answer.text
    assert "part_size=4*1024*1024" in answer.text
    assert "POST /files/presign" in answer.text
    await assert_nothing_kept(files_app)


async def test_an_empty_file_is_refused(files_app: FilesApp) -> None:
    assert error(await files_app.post(b"")) == (400, "file", "empty_file")
    await assert_nothing_kept(files_app)


async def test_a_file_of_the_largest_size_is_taken(files_app: FilesApp) -> None:
    file = await files_app.upload(bytes(4 * 1024 * 1024), purpose="user_data", target_model_names=None)

    assert file.bytes == 4 * 1024 * 1024


async def test_without_a_key_nothing_is_read(files_app: FilesApp) -> None:
    answer = await files_app.post(key="sk-unknown")

    assert error(answer) == (401, None, "invalid_api_key")
    await assert_nothing_kept(files_app)


async def test_a_queue_that_does_not_answer_costs_no_file(files_app: FilesApp) -> None:
    files_app.aws.sqs.delete_queue(QueueUrl=files_app.aws.transfers_queue_url)

    file = await files_app.upload()

    assert set(await files_app.inputs(file.id)) == {"general", "special"}


async def test_a_file_whose_bytes_could_not_be_stored_never_was(files_app: FilesApp) -> None:
    files_app.gateway.storage = Storage("no-such-bucket")

    assert error(await files_app.post()) == (503, None, "unavailable")
    assert await listed(files_app) == []


async def test_what_a_create_left_when_it_died_is_purged(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(BaseException):
        """As if the function had ended there."""

    put = files_app.gateway.storage.put

    async def die(key: str, body: bytes) -> None:
        await put(key, body)
        raise Dead

    monkeypatch.setattr(files_app.gateway.storage, "put", die)
    with pytest.raises(Dead):
        await files_app.post()
    assert len(files_app.aws.keys()) == 1
    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == []  # it may still come to its end

    files_app.age(3616)

    async with files_app.gateway.store.session() as tables:
        (file_id,) = await tables.files.to_purge(10)
    await files_app.deliver(Message("file", file_id))
    assert files_app.aws.keys() == []


# -- creates that must not happen twice -------------------------------------------------------------------------------


async def test_an_sdks_retry_gets_the_file_of_the_first_attempt(files_app: FilesApp) -> None:
    first = await files_app.upload(headers={"x-stainless-retry-count": "0"})
    retry = await files_app.upload(headers={"x-stainless-retry-count": "1"})

    assert retry == first
    assert await listed(files_app) == ["input.jsonl"]


async def test_a_retry_during_the_first_attempt_gets_its_file(files_app: FilesApp) -> None:
    answers = await asyncio.gather(
        files_app.upload(headers={"x-stainless-retry-count": "1"}),
        files_app.upload(headers={"x-stainless-retry-count": "2"}),
    )

    assert answers[0].id == answers[1].id


async def test_two_equal_files_on_purpose_are_two(files_app: FilesApp) -> None:
    assert (await files_app.upload()).id != (await files_app.upload()).id


@pytest.mark.parametrize(
    "other", [{"content": LINES[:-1]}, {"name": "b.jsonl"}, {"target_model_names": "mini-batch"}, {"key": "other"}]
)
async def test_a_retry_of_something_else_is_another_file(files_app: FilesApp, other: dict[str, Any]) -> None:
    if "key" in other:
        other = {"key": await files_app.add_key("key_1")}
    first = await files_app.upload()

    assert (await files_app.upload(headers={"x-stainless-retry-count": "1"}, **other)).id != first.id


async def test_the_clients_own_key_makes_two_creates_one(files_app: FilesApp) -> None:
    first = await files_app.upload(headers={"idempotency-key": "mine"})

    assert (await files_app.upload(headers={"idempotency-key": "mine"})).id == first.id
    assert (await files_app.upload(headers={"idempotency-key": "another"})).id != first.id


async def test_the_clients_own_key_is_not_for_another_file(files_app: FilesApp) -> None:
    await files_app.upload(headers={"idempotency-key": "mine"})

    answer = await files_app.post(chat_lines("gpt-batch", 1), headers={"idempotency-key": "mine"})

    assert answer.status_code == 400
    assert error(answer)[2] == "idempotency_key_reused"
    assert await listed(files_app) == ["input.jsonl"]


async def test_a_retry_after_the_delete_is_a_new_file(files_app: FilesApp) -> None:
    first = await files_app.upload()
    async with files_app.client() as client:
        await client.delete(f"/files/{first.id}")

    assert (await files_app.upload(headers={"x-stainless-retry-count": "1"})).id != first.id


# -- list, retrieve, delete, content ----------------------------------------------------------------------------------


async def test_lists_by_age_purpose_and_group(files_app: FilesApp) -> None:
    await files_app.upload(name="1.jsonl")
    await files_app.upload(name="2.jsonl", target_model_names="gpt-batch,mini-batch")
    await files_app.upload(b"x", name="3.pdf", purpose="vision", target_model_names=None)

    assert await listed(files_app) == ["3.pdf", "2.jsonl", "1.jsonl"]
    assert await listed(files_app, order="asc") == ["1.jsonl", "2.jsonl", "3.pdf"]
    assert await listed(files_app, purpose="vision") == ["3.pdf"]
    assert await listed(files_app, target_model_names="mini-batch") == ["2.jsonl"]
    assert await listed(files_app, target_model_names=["mini-batch", "gpt-batch"]) == ["2.jsonl", "1.jsonl"]
    assert await listed(files_app, target_model_names="other") == []


async def test_the_sdk_pages_through_a_list(files_app: FilesApp) -> None:
    for number in range(5):
        await files_app.upload(name=f"{number}.jsonl")

    async with sdk(files_app.app) as client:
        page = await client.files.list(limit=2, order="asc")
        assert (page.has_more, [file.filename for file in page.data]) == (True, ["0.jsonl", "1.jsonl"])
        found = [file.filename async for file in client.files.list(limit=2)]
        query = {"target_model_names": ["mini-batch", "none"]}
        assert (await client.files.list(extra_query=query)).data == []

    assert found == [f"{number}.jsonl" for number in (4, 3, 2, 1, 0)]


async def test_a_list_goes_on_after_a_file_that_was_deleted_since(files_app: FilesApp) -> None:
    files = [await files_app.upload(name=f"{number}.jsonl") for number in range(2)]
    async with files_app.client() as client:
        await client.delete(f"/files/{files[1].id}")

    assert await listed(files_app, after=files[1].id) == ["0.jsonl"]


async def test_a_list_that_one_answer_cannot_hold_is_cut(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        await files_app.upload(name=f"{number}.jsonl")
    monkeypatch.setattr("files.catalog.MAX_PAGE_BYTES", 1000)

    async with sdk(files_app.app) as client:
        page = await client.files.list()
        assert 1 <= len(page.data) < 3
        assert page.has_more
        assert len([file async for file in client.files.list()]) == 3


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"purpose": "other"}, "purpose"),
        ({"after": "file-none"}, "after"),
    ],
)
async def test_a_list_refuses_what_it_does_not_know(files_app: FilesApp, query: dict[str, Any], param: str) -> None:
    async with files_app.client() as client:
        answer = await client.get("/files", params=query)

    assert error(answer)[:2] == (400, param)


async def test_a_deleted_file_is_gone_for_its_owner(files_app: FilesApp) -> None:
    file = await files_app.upload()
    files_app.aws.take(files_app.aws.transfers_queue_url)

    async with sdk(files_app.app) as client:
        deleted = await client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)

    assert files_app.aws.take(files_app.aws.transfers_queue_url) == [Message("file", file.id)]
    assert await listed(files_app) == []
    async with files_app.client() as client:
        for answer in (
            await client.get(f"/files/{file.id}"),
            await client.get(f"/files/{file.id}/content"),
            await client.delete(f"/files/{file.id}"),
        ):
            assert error(answer) == (404, "id", "file_not_found")


async def test_a_retry_of_a_delete_is_no_error(files_app: FilesApp) -> None:
    file = await files_app.upload()
    again = {"x-stainless-retry-count": "1"}
    async with files_app.client() as client:
        for headers in ({}, again, again):
            answer = await client.delete(f"/files/{file.id}", headers=headers)
            assert (answer.status_code, answer.json()["deleted"]) == (200, True)
        assert error(await client.delete("/files/file-never", headers=again))[0] == 404
    other = await files_app.add_key("other")
    async with files_app.client(other) as client:
        assert error(await client.delete(f"/files/{file.id}", headers=again))[0] == 404


async def test_an_expired_file_is_gone(files_app: FilesApp) -> None:
    file = await files_app.upload()
    files_app.sql("UPDATE files SET expires_at = now()")

    assert await listed(files_app) == []
    async with files_app.client() as client:
        assert error(await client.get(f"/files/{file.id}"))[0] == 404


# -- whose a file is --------------------------------------------------------------------------------------------------


async def statuses(files_app: FilesApp, key: str, file: File) -> list[int]:
    """What a key gets on each route of a file, the delete last."""
    async with files_app.client(key) as client:
        answers = [
            await client.get(f"/files/{file.id}"),
            await client.get(f"/files/{file.id}/content"),
            await client.get("/files", params={"after": file.id}),
            await client.delete(f"/files/{file.id}"),
        ]
    return [answer.status_code for answer in answers]


@pytest.fixture
async def keys(files_app: FilesApp) -> dict[str, str]:
    async with files_app.gateway.store.session() as tables:
        for user in ("ann", "ben"):
            await tables.users.insert(User(id=user))
        await tables.teams.insert(Team(id="blue"))
    return {
        "ann": await files_app.add_key("ann-1", user_id="ann"),
        "ann again": await files_app.add_key("ann-2", user_id="ann"),
        "ben": await files_app.add_key("ben-1", user_id="ben"),
        "blue": await files_app.add_key("blue-1", team_id="blue"),
        "blue again": await files_app.add_key("blue-2", team_id="blue"),
        "alone": await files_app.add_key("alone-1"),
        "alone too": await files_app.add_key("alone-2"),
    }


@pytest.mark.parametrize(
    ("owner", "other", "sees"),
    [
        ("ann", "ann again", True),
        ("ann", "ben", False),
        ("ann", "blue", False),
        ("ann", "alone", False),
        ("blue", "blue again", True),
        ("blue", "ann", False),
        ("alone", "alone too", False),
        ("alone", "ann", False),
    ],
)
async def test_a_key_sees_what_its_user_or_team_or_itself_owns(
    files_app: FilesApp, keys: dict[str, str], owner: str, other: str, sees: bool
) -> None:
    file = await files_app.upload(key=keys[owner])

    assert await listed(files_app, keys[other]) == (["input.jsonl"] if sees else [])
    assert await statuses(files_app, keys[other], file) == ([200, 200, 200, 200] if sees else [404, 404, 400, 404])


async def test_the_admin_sees_every_file(files_app: FilesApp, keys: dict[str, str]) -> None:
    file = await files_app.upload(key=keys["alone"])

    assert (await files_app.file(file.id)).id == file.id


# -- a broken request -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Starlette leaves the file to the GC
async def test_a_form_that_breaks_off_leaves_nothing(files_app: FilesApp) -> None:
    form = httpx.Request("POST", "http://x", data={"purpose": "batch"}, files={"file": io.BytesIO(LINES)})
    body = form.read()[:-200]

    async with files_app.client() as client:
        answer = await client.post("/files", headers={"content-type": form.headers["content-type"]}, content=body)

    assert answer.status_code == 400
    json.loads(answer.text)["error"]
    await assert_nothing_kept(files_app)
