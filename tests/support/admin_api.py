"""The admin API for tests: a client with the master key, and its answers.

A test module has them by `pytest_plugins = ("tests.support.admin_api",)`.
"""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from admin.app import create as create_admin_app
from manifold.gateway import Gateway
from tests.support.gateways import client


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the admin API with the master key."""
    async with client(create_admin_app(gateway)) as made:
        yield made


async def post(api: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = await api.post(path, json=body or {})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def get(api: httpx.AsyncClient, path: str, holder: str | None = None, **query: Any) -> dict[str, Any]:
    """The answer to the holder of a key, by default to the admin."""
    headers = {"authorization": f"Bearer {holder}"} if holder else {}
    answer = await api.get(path, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def refusal(api: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[int, str | None, str]:
    """Status, `param` and message of a POST that is refused."""
    answer = await api.post(path, json=body)
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["message"]


async def models_of(api: httpx.AsyncClient, key: str | None = None) -> list[str]:
    return [model["id"] for model in (await get(api, "/models", key))["data"]]


async def status_with(api: httpx.AsyncClient, key: str) -> int:
    return (await api.get("/models", headers={"authorization": f"Bearer {key}"})).status_code
