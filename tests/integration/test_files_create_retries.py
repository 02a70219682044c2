"""A create of a file that is sent again: an SDK's retry and an `Idempotency-Key` give the file of the first attempt."""

import asyncio
from typing import Any

import pytest

from tests.support.files_answers import LINES, error_of, listed_names
from tests.support.files_app import FilesApp
from tests.support.provider import chat_lines

pytest_plugins = ("tests.support.files_app_fixtures",)


async def test_an_sdks_retry_gets_the_file_of_the_first_attempt(files_app: FilesApp) -> None:
    first = await files_app.upload(headers={"x-stainless-retry-count": "0"})
    retry = await files_app.upload(headers={"x-stainless-retry-count": "1"})

    assert retry == first
    assert await listed_names(files_app) == ["input.jsonl"]


async def test_a_retry_during_the_first_attempt_gets_its_file(files_app: FilesApp) -> None:
    answers = await asyncio.gather(
        files_app.upload(headers={"x-stainless-retry-count": "1"}),
        files_app.upload(headers={"x-stainless-retry-count": "2"}),
    )

    assert answers[0].id == answers[1].id


async def test_two_equal_files_without_a_retry_are_two(files_app: FilesApp) -> None:
    assert (await files_app.upload()).id != (await files_app.upload()).id


@pytest.mark.parametrize(
    "other", [{"content": LINES[:-1]}, {"name": "b.jsonl"}, {"target_model_names": "mini-batch"}, {"key": "other"}]
)
async def test_a_retry_of_something_else_is_another_file(files_app: FilesApp, other: dict[str, Any]) -> None:
    if "key" in other:
        other = {"key": await files_app.add_key("key_1")}
    first = await files_app.upload()

    assert (await files_app.upload(headers={"x-stainless-retry-count": "1"}, **other)).id != first.id


async def test_an_idempotency_key_makes_two_creates_one(files_app: FilesApp) -> None:
    first = await files_app.upload(headers={"idempotency-key": "mine"})

    assert (await files_app.upload(headers={"idempotency-key": "mine"})).id == first.id
    assert (await files_app.upload(headers={"idempotency-key": "another"})).id != first.id


async def test_an_idempotency_key_of_another_file_is_refused(files_app: FilesApp) -> None:
    await files_app.upload(headers={"idempotency-key": "mine"})

    answer = await files_app.post(chat_lines("gpt-batch", 1), headers={"idempotency-key": "mine"})

    assert answer.status_code == 400
    assert error_of(answer)[2] == "idempotency_key_reused"
    assert await listed_names(files_app) == ["input.jsonl"]


async def test_a_retry_after_the_delete_is_a_new_file(files_app: FilesApp) -> None:
    first = await files_app.upload()
    async with files_app.client() as client:
        await client.delete(f"/files/{first.id}")

    assert (await files_app.upload(headers={"x-stainless-retry-count": "1"})).id != first.id
