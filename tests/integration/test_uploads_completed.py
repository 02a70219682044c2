"""The end of an upload, over ASGI, on Postgres, S3 and SQS: completed, cancelled or expired, also by the worker."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from files import upload_completion
from files.uploads import RESERVED_SECONDS
from manifold.queue import Message
from manifold.storage import Storage
from tests.support import apps, gateways
from tests.support.files_answers import error_of
from tests.support.files_app import FilesApp
from tests.support.provider import chat_lines
from tests.support.uploads import MIB, Uploader, assert_no_file, large_input, run_upload_schedule, success_body

pytest_plugins = ("tests.support.upload_fixtures",)

LINES = chat_lines("gpt-batch", 3)
MD5 = hashlib.md5(LINES).hexdigest()


async def retrieved(files_app: FilesApp, upload_id: str) -> httpx.Response:
    async with files_app.client() as client:
        return await client.get(f"/uploads/{upload_id}")


# -- complete ---------------------------------------------------------------------------------------------------------


async def test_parts_that_differ_from_the_announced_file(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, (first, second) = await uploader.send_parts(LINES, size=len(LINES) - 9)
    _, (foreign,) = await uploader.send_parts(LINES[:-9])

    for part_ids, code in (
        ([], "invalid_value"),
        ([first], "bytes_mismatch"),
        ([second], "bytes_mismatch"),
        ([first, second, second], "duplicate_part"),
        ([first, first], "duplicate_part"),
        ([first, "part_none"], "part_not_found"),
        ([foreign, second], "part_not_found"),
        (["content"], "part_not_found"),
    ):
        assert error_of(await uploader.complete(upload_id, part_ids)) == (400, "part_ids", code), part_ids
    await assert_no_file(files_app)

    assert success_body(await uploader.complete(upload_id, [first, second]))["status"] == "completed"


async def test_more_bytes_than_were_announced(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    more = success_body(await uploader.part(upload_id, b"{}\n"))["id"]

    assert error_of(await uploader.complete(upload_id, [*part_ids, more]))[2] == "bytes_mismatch"
    await assert_no_file(files_app)


async def test_the_bytes_of_an_upload_are_bounded(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("files.uploads.MIN_BYTES", 0)
    upload_id = success_body(await uploader.create(len(LINES)))["id"]
    part_ids = [success_body(await uploader.part(upload_id, LINES))["id"] for _ in range(3)]

    refused = await uploader.part(upload_id, b"x")

    assert error_of(refused) == (400, "data", "too_many_parts")
    assert str(3 * len(LINES)) in refused.json()["error"]["message"]
    assert sorted(files_app.aws.keys("uploads/")) == sorted(f"uploads/{upload_id}/{part_id}" for part_id in part_ids)
    assert success_body(await uploader.complete(upload_id, part_ids[1:2]))["status"] == "completed"


async def test_an_upload_has_a_maximum_number_of_parts(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("files.uploads.MAX_PARTS", 2)
    upload_id, part_ids = await uploader.send_parts(LINES, size=len(LINES) // 2 + 1)
    other_id = success_body(await uploader.create(len(LINES)))["id"]

    assert error_of(await uploader.part(upload_id, b"x")) == (400, "data", "too_many_parts")
    assert success_body(await uploader.part(other_id, b"x"))["upload_id"] == other_id
    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "completed"


@pytest.mark.parametrize("fields", [{"md5": "abc"}, {"md5": 1}, {"part_ids": "x"}, {"part_ids": [1]}, {"other": 1}])
async def test_a_complete_that_cannot_be_read(uploader: Uploader, fields: dict[str, Any]) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)

    assert error_of(await uploader.complete(upload_id, **({"part_ids": part_ids} | fields)))[0] == 400


async def test_a_wrong_sum_keeps_nothing_and_a_right_one_makes_the_file(
    files_app: FilesApp, uploader: Uploader
) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES, size=100)
    md5 = hashlib.md5(LINES).hexdigest()

    assert error_of(await uploader.complete(upload_id, part_ids, md5="0" * 32)) == (400, "md5", "md5_mismatch")
    assert error_of(await uploader.complete(upload_id, part_ids[::-1], md5=md5)) == (400, "md5", "md5_mismatch")
    await assert_no_file(files_app)

    done = success_body(await uploader.complete(upload_id, part_ids, md5=md5.upper()))
    assert files_app.aws.read(f"files/{done['file']['id']}") == LINES


async def test_a_complete_again_gets_the_same_answer(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES, size=100)
    md5 = hashlib.md5(LINES).hexdigest()

    first = success_body(await uploader.complete(upload_id, part_ids, md5=md5))
    await files_app.deliver_all()  # the parts are gone
    again = success_body(await uploader.complete(upload_id, part_ids))

    assert again["file"]["id"] == first["file"]["id"]
    assert error_of(await uploader.complete(upload_id, part_ids, md5="0" * 32))[2] == "md5_mismatch"
    assert error_of(await uploader.complete(upload_id, part_ids[::-1]))[2] == "upload_completed"


async def test_completes_at_once_make_one_file(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(large_input(), size=2 * MIB)

    answers = await asyncio.gather(*(uploader.complete(upload_id, part_ids) for _ in range(4)))

    assert len({success_body(answer)["file"]["id"] for answer in answers}) == 1
    assert len(files_app.sql("SELECT id FROM inputs")) == 2
    assert len(files_app.sql("SELECT id FROM files")) == 1
    assert files_app.aws.open_uploads() == 0


async def test_a_complete_that_waits_too_long_may_try_again(
    uploader: Uploader, files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES, size=len(LINES) // 2 + 1)
    files_app.sql(
        "UPDATE uploads SET lease = 'other', leased_until = now() + interval '30 seconds', part_ids = %s", part_ids
    )

    with monkeypatch.context() as patch:
        patch.setattr(upload_completion, "WAIT_SECONDS", 0.0)
        assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "pending"
        assert error_of(await uploader.complete(upload_id, part_ids[::-1])) == (503, None, "unavailable")

    files_app.age(31)
    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "completed"


async def test_a_request_that_takes_too_long_leaves_the_upload_to_the_worker(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, part_ids = await uploader.send_parts(large_input(), size=2 * MIB)
    monkeypatch.setattr(upload_completion, "WAIT_SECONDS", 0.0)

    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "pending"
    assert files_app.aws.open_uploads() == 0
    await files_app.deliver_all()

    assert success_body(await retrieved(files_app, upload_id))["status"] == "completed"


async def test_the_worker_completes_what_a_request_died_of(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    async with files_app.gateway.store.session() as tables:
        assert await tables.uploads.claim(
            upload_id, part_ids, None, "dead", upload_completion.LEASE_SECONDS, rejoin=False
        )
    await files_app.deliver(Message("upload", upload_id))
    assert success_body(await retrieved(files_app, upload_id))["status"] == "pending"

    files_app.age(upload_completion.LEASE_SECONDS + 16)
    async with files_app.gateway.store.session() as tables:
        assert await tables.uploads.due(10) == [upload_id]
    await files_app.deliver(Message("upload", upload_id))

    assert success_body(await retrieved(files_app, upload_id))["status"] == "completed"


async def test_storage_that_fails_keeps_the_upload(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, part_ids = await uploader.send_parts(large_input(), size=2 * MIB)
    working = files_app.gateway.storage
    files_app.gateway.storage = Storage("no-such-bucket")
    assert error_of(await uploader.complete(upload_id, part_ids)) == (503, None, "unavailable")

    files_app.gateway.storage = working
    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "completed"


async def test_a_file_whose_lines_are_bad_is_made_and_goes_nowhere(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES + b"no json\n")

    file = success_body(await uploader.complete(upload_id, part_ids))["file"]

    assert file["status"] == "processed"
    assert await files_app.inputs(file["id"]) == {}


async def test_a_file_for_no_batch_is_kept_as_it_is(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(bytes(range(256)), purpose="user_data", filename="a.bin")

    file = success_body(await uploader.complete(upload_id, part_ids))["file"]

    assert files_app.aws.read(f"files/{file['id']}") == bytes(range(256))
    assert (file["expires_at"], file["inputs"], file["target_model_names"]) == (None, None, None)


async def test_a_line_of_hundred_megabytes_is_one_bad_line(files_app: FilesApp, uploader: Uploader) -> None:
    part = b'{"custom_id": "' + b"a" * (4 * MIB - 15)
    upload_id = success_body(await uploader.create(25 * len(part) + 1 + len(LINES)))["id"]
    part_ids = [success_body(await uploader.part(upload_id, part))["id"] for _ in range(25)]
    part_ids.append(success_body(await uploader.part(upload_id, b"\n" + LINES))["id"])

    file = success_body(await uploader.complete(upload_id, part_ids))["file"]

    assert file["bytes"] == 100 * MIB + 1 + len(LINES)
    ((report,),) = files_app.sql("SELECT report FROM files")
    assert [(one["line"], one["code"]) for one in report["errors"]] == [(1, "line_too_long")]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
async def test_json_that_is_nested_without_end_is_one_bad_line(
    files_app: FilesApp, uploader: Uploader, opening: bytes
) -> None:
    bomb = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": ' + opening * 300_000 + b"\n"
    upload_id, part_ids = await uploader.send_parts(bomb + LINES)

    success_body(await uploader.complete(upload_id, part_ids))

    ((report,),) = files_app.sql("SELECT report FROM files")
    assert [(one["line"], one["code"]) for one in report["errors"]] == [(1, "invalid_json_line")]
    assert report["lines"] == 4


# -- the ends ---------------------------------------------------------------------------------------------------------


async def test_a_cancelled_upload_takes_nothing_more(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)

    assert success_body(await uploader.cancel(upload_id))["status"] == "cancelled"
    assert success_body(await uploader.cancel(upload_id))["status"] == "cancelled"

    assert error_of(await uploader.part(upload_id, b"x"))[::2] == (400, "upload_cancelled")
    assert error_of(await uploader.complete(upload_id, part_ids))[::2] == (400, "upload_cancelled")
    await files_app.deliver_all()
    assert files_app.aws.keys() == []
    await assert_no_file(files_app)


async def test_a_completed_upload_takes_nothing_more(uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    success_body(await uploader.complete(upload_id, part_ids))

    assert error_of(await uploader.part(upload_id, b"x"))[::2] == (400, "upload_completed")
    assert error_of(await uploader.cancel(upload_id))[::2] == (400, "upload_completed")


async def test_an_expired_upload_takes_nothing_more_and_is_swept(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    files_app.age(3601)

    for _ in range(2):
        async with files_app.client() as client:
            assert success_body(await client.get(f"/uploads/{upload_id}"))["status"] == "expired"
        assert error_of(await uploader.part(upload_id, b"x"))[::2] == (400, "upload_expired")
        assert error_of(await uploader.complete(upload_id, part_ids))[::2] == (400, "upload_expired")
        assert error_of(await uploader.cancel(upload_id))[::2] == (400, "upload_expired")
        await run_upload_schedule(files_app)

    assert files_app.aws.keys() == []
    assert files_app.sql("SELECT status, due_at FROM uploads") == [("expired", None)]


async def test_a_part_that_comes_late_to_an_upload_that_is_being_completed(
    files_app: FilesApp, uploader: Uploader
) -> None:
    upload_id, _ = await uploader.send_parts(LINES)
    files_app.age(3601)
    files_app.sql("UPDATE uploads SET lease = 'other', leased_until = now() + interval '30 seconds'")

    assert error_of(await uploader.part(upload_id, b"x"))[::2] == (400, "upload_expired")
    assert len(files_app.aws.keys("uploads/")) == 1


async def test_what_an_abandoned_join_left_is_purged_with_its_reservation(
    files_app: FilesApp, uploader: Uploader
) -> None:
    await uploader.send_parts(LINES)
    ((file_id,),) = files_app.sql("SELECT id FROM files")
    await files_app.gateway.storage.put(f"files/{file_id}", LINES)

    files_app.age(RESERVED_SECONDS + 16)

    async with files_app.gateway.store.session() as tables:
        assert await tables.files.to_purge(10) == [file_id]
    await files_app.deliver(Message("file", file_id))
    assert files_app.aws.keys("files/") == []


async def test_a_part_that_comes_too_late_is_not_kept(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = success_body(await uploader.create(9))["id"]
    put = files_app.gateway.storage.put

    async def cancelled_meanwhile(key: str, body: bytes) -> None:
        await put(key, body)
        success_body(await uploader.cancel(upload_id))

    monkeypatch.setattr(files_app.gateway.storage, "put", cancelled_meanwhile)

    assert error_of(await uploader.part(upload_id, b"x"))[2] == "upload_cancelled"
    assert files_app.aws.keys() == []


async def test_a_cancel_wins_over_the_complete_that_is_under_way(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    write = files_app.gateway.storage.write

    async def cancelled_meanwhile(key: str, chunks: AsyncIterator[bytes]) -> int:
        success_body(await uploader.cancel(upload_id))
        return await write(key, chunks)

    monkeypatch.setattr(files_app.gateway.storage, "write", cancelled_meanwhile)

    assert error_of(await uploader.complete(upload_id, part_ids))[0] == 503
    assert error_of(await uploader.complete(upload_id, part_ids))[2] == "upload_cancelled"
    assert files_app.sql("SELECT id FROM inputs") == []


async def test_the_upload_of_another_owner_is_not_found(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)

    async with files_app.client(await files_app.add_key("key_1")) as client:
        other = Uploader(client)
        answers = [
            await client.get(f"/uploads/{upload_id}"),
            await other.part(upload_id, b"x"),
            await other.complete(upload_id, part_ids),
            await other.cancel(upload_id),
        ]

    assert {error_of(answer) for answer in answers} == {(404, "upload_id", "upload_not_found")}
    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "completed"


async def test_the_upload_of_a_deleted_file_has_none(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    file_id = success_body(await uploader.complete(upload_id, part_ids))["file"]["id"]
    async with files_app.client() as client:
        await client.delete(f"/files/{file_id}")
        again = success_body(await client.get(f"/uploads/{upload_id}"))

    assert (again["status"], again["file"]) == ("completed", None)


# -- by the worker ----------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads are joined by the worker, never within a request."""
    monkeypatch.setattr(upload_completion, "INLINE_BYTES", 0)
    monkeypatch.setattr(upload_completion, "WAIT_SECONDS", 0.0)


@pytest.mark.usefixtures("slow")
async def test_a_large_file_is_joined_by_the_worker(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES, size=100)

    assert success_body(await uploader.complete(upload_id, part_ids, md5=MD5))["status"] == "pending"
    await files_app.deliver_all()
    done = success_body(await retrieved(files_app, upload_id))

    assert (done["status"], done["file"]["status"]) == ("completed", "processed")
    assert (await files_app.file(done["file"]["id"])).status == "processed"
    assert files_app.aws.read(f"files/{done['file']['id']}") == LINES
    assert set(await files_app.inputs(done["file"]["id"])) == {"general", "special"}
    await files_app.deliver_all()
    assert files_app.aws.keys() == [f"files/{done['file']['id']}"]
    assert success_body(await uploader.complete(upload_id, part_ids, md5=MD5))["file"]["id"] == done["file"]["id"]


@pytest.mark.usefixtures("slow")
async def test_a_request_waits_for_the_worker(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_completion, "WAIT_SECONDS", 20.0)
    upload_id, part_ids = await uploader.send_parts(LINES)

    async def work() -> None:
        while not (waiting := files_app.aws.take(files_app.aws.transfers_queue_url)):  # noqa: ASYNC110 (SQS is asked)
            await asyncio.sleep(0.01)
        for message in waiting:
            await files_app.deliver(message)

    answer, _ = await asyncio.gather(uploader.complete(upload_id, part_ids), work())

    assert success_body(answer)["status"] == "completed"


@pytest.mark.usefixtures("slow")
async def test_a_wrong_sum_found_by_the_worker_is_an_error_of_the_file(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    success_body(await uploader.complete(upload_id, part_ids, md5="0" * 32))
    await files_app.deliver_all()

    done = success_body(await retrieved(files_app, upload_id))
    assert (done["status"], done["file"]["status"]) == ("completed", "error")
    assert MD5 in done["file"]["status_details"]
    assert await files_app.inputs(done["file"]["id"]) == {}
    assert error_of(await uploader.complete(upload_id, part_ids, md5="0" * 32))[2] == "md5_mismatch"
    batch = {"input_file_id": done["file"]["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with gateways.client(apps.create("batches", files_app.gateway)) as batches:
        assert error_of(await batches.post("/batches", json=batch)) == (400, "input_file_id", "invalid_file")


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("change", "details"),
    [
        ("models = '{claude-2}'", "may not use the model 'gpt-batch'"),
        ("blocked = true", "blocked"),
        ("expires_at = now()", "expired"),
        ("deleted_at = now()", "deleted"),
    ],
)
async def test_rights_that_are_lost_meanwhile_are_an_error_of_the_file(
    files_app: FilesApp, change: str, details: str
) -> None:
    async with files_app.client(await files_app.add_key("key_1")) as client:
        uploader = Uploader(client)
        upload_id, part_ids = await uploader.send_parts(LINES)
        success_body(await uploader.complete(upload_id, part_ids))
    files_app.sql(f"UPDATE api_keys SET {change}")
    await files_app.deliver_all()

    file = success_body(await retrieved(files_app, upload_id))["file"]
    assert file["status"] == "error"
    assert details in file["status_details"]
    assert file["target_model_names"] is None
    await files_app.deliver_all()
    assert files_app.sql("SELECT status, due_at FROM uploads") == [("completed", None)]


@pytest.mark.usefixtures("slow")
async def test_the_worker_acts_for_the_key_that_announced_the_file(files_app: FilesApp) -> None:
    key = await files_app.add_key("key_1", models=["gpt-batch"], aliases={"ours": "gpt-batch"})
    async with files_app.client(key) as client:
        uploader = Uploader(client)
        upload_id, part_ids = await uploader.send_parts(chat_lines("ours", 3))
        success_body(await uploader.complete(upload_id, part_ids))
    await files_app.deliver_all()

    file = success_body(await retrieved(files_app, upload_id))["file"]
    assert (file["status"], file["target_model_names"]) == ("processed", ["gpt-batch"])


@pytest.mark.usefixtures("slow")
async def test_a_complete_at_the_end_of_the_hour_has_one_more(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    files_app.age(3590)
    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "pending"
    files_app.age(60)
    async with files_app.gateway.store.session() as tables:
        await tables.uploads.expire(10)
    assert success_body(await retrieved(files_app, upload_id))["status"] == "pending"

    await files_app.deliver_all()

    assert success_body(await retrieved(files_app, upload_id))["status"] == "completed"


@pytest.mark.usefixtures("slow")
async def test_an_upload_that_could_not_be_joined_expires(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    success_body(await uploader.complete(upload_id, part_ids))
    files_app.age(RESERVED_SECONDS)

    await files_app.deliver_all()
    assert success_body(await retrieved(files_app, upload_id))["status"] == "expired"
    await run_upload_schedule(files_app)

    assert files_app.sql("SELECT status, due_at FROM uploads") == [("expired", None)]
    assert files_app.aws.keys() == []


@pytest.mark.usefixtures("slow")
async def test_a_large_upload_is_cancelled_while_it_waits_for_the_worker(
    files_app: FilesApp, uploader: Uploader
) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    success_body(await uploader.complete(upload_id, part_ids))

    assert success_body(await uploader.cancel(upload_id))["status"] == "cancelled"
    await files_app.deliver_all()

    assert files_app.aws.keys() == []
    await assert_no_file(files_app)


@pytest.mark.usefixtures("slow")
async def test_a_worker_whose_storage_fails_is_sent_again(
    files_app: FilesApp, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    success_body(await uploader.complete(upload_id, part_ids))
    working, files_app.gateway.storage = files_app.gateway.storage, Storage("no-such-bucket")
    await files_app.deliver_all()
    files_app.gateway.storage = working
    files_app.age(21)

    async with files_app.gateway.store.session() as tables:
        assert await tables.uploads.due(10) == [upload_id]
    await files_app.deliver(Message("upload", upload_id))

    assert success_body(await uploader.complete(upload_id, part_ids))["status"] == "completed"


@pytest.mark.usefixtures("slow")
async def test_a_repeated_or_late_message_changes_nothing(files_app: FilesApp, uploader: Uploader) -> None:
    upload_id, part_ids = await uploader.send_parts(LINES)
    success_body(await uploader.complete(upload_id, part_ids))
    await asyncio.gather(*(files_app.deliver(Message("upload", upload_id)) for _ in range(3)))
    done = success_body(await uploader.complete(upload_id, part_ids))
    await asyncio.gather(*(files_app.deliver(Message("upload", upload_id)) for _ in range(3)))
    await files_app.deliver(Message("upload", "upload_none"))

    assert files_app.aws.keys() == [f"files/{done['file']['id']}"]
    assert json.loads(files_app.aws.read(f"files/{done['file']['id']}").splitlines()[0])["custom_id"] == "request-0"
