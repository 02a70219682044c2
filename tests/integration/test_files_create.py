"""`POST /files` over ASGI, on Postgres, S3 and SQS: a file's groups and lines, and failures while it is stored."""

from pathlib import Path
from typing import Any

import pytest

from files.file_fields import BATCH_EXPIRY
from manifold.queue import Message
from manifold.storage import Storage
from tests.support.files_answers import LINES, assert_nothing_kept, error_of, listed_names
from tests.support.files_app import SPECIAL, FilesApp
from tests.support.gateways import sdk
from tests.support.provider import chat_line, chat_lines

pytest_plugins = ("tests.support.files_app_fixtures",)


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

    assert error_of(answer) == (status, "target_model_names", code)
    assert names in answer.text
    await assert_nothing_kept(files_app)


async def test_a_group_that_the_key_may_not_use_is_refused(files_app: FilesApp) -> None:
    key = await files_app.add_key("key_1", models=["mini-batch"])

    by_field = await files_app.post(key=key, target_model_names="gpt-batch")
    by_lines = await files_app.post(key=key, target_model_names=None)

    assert error_of(by_field) == (403, "target_model_names", "model_access_denied")
    assert error_of(by_lines) == (403, "model", "model_access_denied")
    await assert_nothing_kept(files_app)


@pytest.mark.parametrize(
    "content",
    [b"\r\n", b"no json\n", chat_line("gpt-batch", "a") * 2, chat_line("a", "1") + chat_line("b", "2"), b"\xff\xfe"],
)
async def test_a_file_with_bad_lines_is_kept_and_not_replicated(files_app: FilesApp, content: bytes) -> None:
    file = await files_app.upload(content)

    assert file.status == "processed"
    assert file.inputs == []
    assert files_app.aws.take(files_app.aws.transfers_queue_url) == []


@pytest.mark.parametrize("model", ["gpt-4o-mini-2024-07-18", "gpt-batch", "lab/chat", "small"])
async def test_lines_of_one_model_go_to_the_groups_that_are_named_whatever_it_is(
    files_app: FilesApp, model: str
) -> None:
    """The key may not use the group `gpt-batch`, which is not used."""
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


async def test_without_a_key_nothing_is_read(files_app: FilesApp) -> None:
    answer = await files_app.post(key="sk-unknown")

    assert error_of(answer) == (401, None, "invalid_api_key")
    await assert_nothing_kept(files_app)


async def test_a_file_is_created_although_the_queue_does_not_answer(files_app: FilesApp) -> None:
    files_app.aws.sqs.delete_queue(QueueUrl=files_app.aws.transfers_queue_url)

    file = await files_app.upload()

    assert set(await files_app.inputs(file.id)) == {"general", "special"}


async def test_a_file_whose_bytes_could_not_be_stored_does_not_exist(files_app: FilesApp) -> None:
    files_app.gateway.storage = Storage("no-such-bucket")

    assert error_of(await files_app.post()) == (503, None, "unavailable")
    assert await listed_names(files_app) == []


async def test_the_rest_of_a_crashed_create_is_purged(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(BaseException):
        """The function ends there."""

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
