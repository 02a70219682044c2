"""Answers of the files app, and the state of its storage, for the tests of `/files`."""

from typing import Any

import httpx

from tests.support.files_app import FilesApp
from tests.support.provider import chat_lines

LINES = chat_lines("gpt-batch", 3)


def error_of(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, `param` and code of a refusal, whose body has OpenAI's shape."""
    body = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer.status_code, body["param"], body["code"]


async def listed_names(files_app: FilesApp, key: str | None = None, **query: Any) -> list[str]:
    """The names of the files in a list."""
    async with files_app.client(key) if key else files_app.client() as client:
        answer = await client.get("/files", params=query)
    assert answer.status_code == 200, answer.text
    return [file["filename"] for file in answer.json()["data"]]


async def assert_nothing_kept(files_app: FilesApp) -> None:
    assert files_app.aws.keys() == []
    assert files_app.aws.take(files_app.aws.transfers_queue_url) == []
    assert files_app.sql("SELECT id FROM files") == []
