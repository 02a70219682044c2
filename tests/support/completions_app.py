"""The completions app on the simulated provider, and its clients.

A test module has them by `pytest_plugins = ("tests.support.completions_app",)`.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from completions.app import create as create_completions_app
from local.provider import Latency, Simulator, defaults
from manifold.auth import key_hash
from manifold.gateway import Gateway
from manifold.providers.registry import close_providers
from manifold.store.keys import Key
from tests.support import gateways
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.provider_fixtures",)

CONFIG = Path(__file__).with_name("completions.yaml")
ACCOUNTS = {"general": "azure-general", "special": "azure-special", "mini": "openai"}
"""The provider's account behind each group of one deployment."""
HELLO = [{"role": "user", "content": "Hello there"}]
NO_RETRIES: dict[str, Any] = {"messages": HELLO, "num_retries": 0}
"""A request's body without retries of the gateway."""


class CompletionsApp:
    """The app, and the provider behind it."""

    def __init__(self, gateway: Gateway, provider: Simulator) -> None:
        self.gateway = gateway
        self.provider = provider
        self.app: FastAPI = create_completions_app(gateway)

    def sdk(self, key: str = MASTER_KEY, retries: int = 0) -> AsyncOpenAI:
        """OpenAI's own client, which refuses answers that do not fit its types."""
        return gateways.sdk(self.app, key).with_options(max_retries=retries)

    async def post(self, path: str = "/chat/completions", key: str = MASTER_KEY, **body: Any) -> httpx.Response:
        async with gateways.client(self.app, key) as client:
            return await client.post(path, json=body)

    async def chat(self, model: object, **body: Any) -> Any:
        """The body of a successful answer."""
        answer = await self.post(**NO_RETRIES | body, model=model)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def error(self, **body: Any) -> tuple[int, dict[str, Any]]:
        """Status and error of an answer that is no success."""
        answer = await self.post(**NO_RETRIES | body)
        return answer.status_code, answer.json()["error"]

    async def add_key(self, value: str, models: list[str], aliases: dict[str, str] | None = None) -> str:
        key = Key(id=f"key_{value}", token_hash=key_hash(value), name=value, models=models, aliases=aliases or {})
        async with self.gateway.store.session() as tables:
            await tables.keys.insert(key)
        return value

    def set_latency(self, group: str, **seconds: float) -> None:
        """Set the latency of the group's provider, in seconds."""
        self.provider.state.set_latency(ACCOUNTS[group], Latency(**seconds))

    def calls(self, group: str | None = None) -> list[dict[str, Any]]:
        """The requests that the group's provider, or all of them, received."""
        return self.provider.log(ACCOUNTS[group] if group else None)


def completion(answer: object) -> ChatCompletion:
    """The answer as the strict type of OpenAI's SDK; fails if it does not fit."""
    return ChatCompletion.model_validate(answer, strict=True)


def answer_text(answer: object) -> str:
    """The text of an answer's first choice."""
    return completion(answer).choices[0].message.content or ""


@pytest.fixture
async def completions_app(database_url: str, simulated_provider: Simulator) -> AsyncIterator[CompletionsApp]:
    port = int(simulated_provider.url.rpartition(":")[2])
    gateway = gateways.gateway(database_url, {"MANIFOLD_CONFIG": str(CONFIG), **defaults(port)})
    yield CompletionsApp(gateway, simulated_provider)
    await gateway.store.close()
    await close_providers()
