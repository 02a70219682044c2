"""A gateway for tests, and clients of its apps without a network in between."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import httpx2
from fastapi import FastAPI
from openai import AsyncOpenAI

from manifold.activity import ActivityMark
from manifold.config import Environment
from manifold.gateway import Gateway

MASTER_KEY = "sk-master-of-the-tests"
CONFIG = Path(__file__).with_name("config.yaml")


class UnwrittenMark(ActivityMark):
    """A mark that is counted, and not written to any bucket."""

    def __init__(self) -> None:
        self.writes = 0

    async def write(self) -> None:
        self.writes += 1


def gateway(database_url: str, more: Mapping[str, str] | None = None) -> Gateway:
    """A gateway on this database with the tests' `config.yaml`; `more` are further variables, or others."""
    values = {
        "DATABASE_URL": database_url,
        "MANIFOLD_CONFIG": str(CONFIG),
        "MANIFOLD_MASTER_KEY": MASTER_KEY,
        "MANIFOLD_BUCKET": "manifold-tests",
        "MANIFOLD_CONTROL_QUEUE_URL": "http://127.0.0.1:1/control",
        "MANIFOLD_TRANSFERS_QUEUE_URL": "http://127.0.0.1:1/transfers",
        "MANIFOLD_WEBHOOKS_QUEUE_URL": "http://127.0.0.1:1/webhooks",
        "MANIFOLD_EXECUTION_QUEUE_URL": "http://127.0.0.1:1/execution",
        "MANIFOLD_COMPLETIONS_TIMEOUT": "29",
    }
    made = Gateway(Environment(values | dict(more or {})))
    made.activity_mark = UnwrittenMark()
    return made


def client(app: FastAPI, key: str | None = MASTER_KEY) -> httpx.AsyncClient:
    """A client that holds this key. An exception that leaves the app is raised in the test."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers)


def sdk(app: FastAPI, key: str = MASTER_KEY) -> AsyncOpenAI:
    """OpenAI's own client with this key; it refuses answers that do not fit its types."""
    return AsyncOpenAI(
        base_url="http://gateway",
        api_key=key,
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app)),
        _strict_response_validation=True,
    )
