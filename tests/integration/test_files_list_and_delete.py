"""Files are listed, retrieved and deleted, by the keys of their owner and by no other key."""

import json
from typing import Any

import pytest

from manifold.queue import Message
from manifold.schemas import File
from manifold.store.teams import Team
from manifold.store.users import User
from tests.support.files_answers import error_of, listed_names
from tests.support.files_app import FilesApp
from tests.support.gateways import sdk

pytest_plugins = ("tests.support.files_app_fixtures",)


async def test_lists_by_age_purpose_and_group(files_app: FilesApp) -> None:
    await files_app.upload(name="1.jsonl")
    await files_app.upload(name="2.jsonl", target_model_names="gpt-batch,mini-batch")
    await files_app.upload(b"x", name="3.pdf", purpose="vision", target_model_names=None)

    assert await listed_names(files_app) == ["3.pdf", "2.jsonl", "1.jsonl"]
    assert await listed_names(files_app, order="asc") == ["1.jsonl", "2.jsonl", "3.pdf"]
    assert await listed_names(files_app, purpose="vision") == ["3.pdf"]
    assert await listed_names(files_app, target_model_names="mini-batch") == ["2.jsonl"]
    assert await listed_names(files_app, target_model_names=["mini-batch", "gpt-batch"]) == ["2.jsonl", "1.jsonl"]
    assert await listed_names(files_app, target_model_names="other") == []


async def test_the_sdk_pages_through_a_list(files_app: FilesApp) -> None:
    for number in range(5):
        await files_app.upload(name=f"{number}.jsonl")

    async with sdk(files_app.app) as client:
        page = await client.files.list(limit=2, order="asc")
        assert (page.has_more, [file.filename for file in page.data]) == (True, ["0.jsonl", "1.jsonl"])
        names = [file.filename async for file in client.files.list(limit=2)]
        query = {"target_model_names": ["mini-batch", "none"]}
        assert (await client.files.list(extra_query=query)).data == []

    assert names == [f"{number}.jsonl" for number in (4, 3, 2, 1, 0)]


async def test_a_list_continues_after_a_deleted_file(files_app: FilesApp) -> None:
    files = [await files_app.upload(name=f"{number}.jsonl") for number in range(2)]
    async with files_app.client() as client:
        await client.delete(f"/files/{files[1].id}")

    assert await listed_names(files_app, after=files[1].id) == ["0.jsonl"]


async def test_a_list_that_is_too_long_for_one_answer_is_cut(
    files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await files_app.upload(name=f"{number}.jsonl")
    monkeypatch.setattr("files.catalog.MAX_PAGE_BYTES", 1000)

    async with sdk(files_app.app) as client:
        page = await client.files.list()
        assert 1 <= len(page.data) < 3
        assert page.has_more
        assert len([file async for file in client.files.list()]) == 3


@pytest.mark.parametrize("character", ["x", "\U0001f600", '"', "\\"])
async def test_a_list_is_cut_where_lambda_would_not_carry_it(
    character: str, files_app: FilesApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_app.sql(
        "INSERT INTO files (id, purpose, filename, bytes, status, groups) SELECT 'file-' || lpad(n::text, 22, '0'),"
        " 'user_data', repeat(%s, 200), 1, 'processed', '{}' FROM generate_series(1, 100) n",
        character,
    )
    monkeypatch.setattr("files.catalog.MAX_PAGE_BYTES", 20_000)

    async with files_app.client() as client:
        page = (await client.get("/files")).text

    carried = json.dumps({"body": page}, ensure_ascii=False)
    assert 18_000 < len(carried.encode()) < 20_200


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

    assert error_of(answer)[:2] == (400, param)


async def test_a_deleted_file_is_gone_for_its_owner(files_app: FilesApp) -> None:
    file = await files_app.upload()
    files_app.aws.take(files_app.aws.transfers_queue_url)

    async with sdk(files_app.app) as client:
        deleted = await client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)

    assert files_app.aws.take(files_app.aws.transfers_queue_url) == [Message("file", file.id)]
    assert await listed_names(files_app) == []
    async with files_app.client() as client:
        for answer in (
            await client.get(f"/files/{file.id}"),
            await client.get(f"/files/{file.id}/content"),
            await client.delete(f"/files/{file.id}"),
        ):
            assert error_of(answer) == (404, "id", "file_not_found")


async def test_a_retry_of_a_delete_is_no_error(files_app: FilesApp) -> None:
    file = await files_app.upload()
    again = {"x-stainless-retry-count": "1"}
    async with files_app.client() as client:
        for headers in ({}, again, again):
            answer = await client.delete(f"/files/{file.id}", headers=headers)
            assert (answer.status_code, answer.json()["deleted"]) == (200, True)
        assert error_of(await client.delete("/files/file-never", headers=again))[0] == 404
    other = await files_app.add_key("other")
    async with files_app.client(other) as client:
        assert error_of(await client.delete(f"/files/{file.id}", headers=again))[0] == 404


async def test_an_expired_file_is_gone(files_app: FilesApp) -> None:
    file = await files_app.upload()
    files_app.sql("UPDATE files SET expires_at = now()")

    assert await listed_names(files_app) == []
    async with files_app.client() as client:
        assert error_of(await client.get(f"/files/{file.id}"))[0] == 404


async def statuses(files_app: FilesApp, key: str, file: File) -> list[int]:
    """The status that a key gets on each route of a file, the delete last."""
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

    assert await listed_names(files_app, keys[other]) == (["input.jsonl"] if sees else [])
    assert await statuses(files_app, keys[other], file) == ([200, 200, 200, 200] if sees else [404, 404, 400, 404])


async def test_the_admin_sees_every_file(files_app: FilesApp, keys: dict[str, str]) -> None:
    file = await files_app.upload(key=keys["alone"])

    assert (await files_app.file(file.id)).id == file.id
