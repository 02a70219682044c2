"""Several answers to one request: how their array leaves, and what is written down of it."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from local.provider import Fault
from manifold.access import Caller
from manifold.runtime import STREAMED
from manifold.store.functions import Functions
from manifold.store.spend import SpendFilter, SpendRow
from tests.support.completions_app import HELLO, NO_RETRIES, CompletionsApp, completion
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.completions_app",)


@dataclass
class Client:
    """Takes an answer piece by piece, as a runtime that streams does, and leaves when it is told to."""

    app: CompletionsApp
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    """What came, and when: seconds from the request."""
    recorded: list[int] = field(default_factory=list)
    """How many calls were written down when each piece came."""
    leaves_after: str | None = None
    """The text of the piece after which it leaves."""

    @property
    def content(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def came_at(self, text: str) -> float:
        """When the piece that has a text came."""
        return next(at for at, piece in self.pieces if text.encode() in piece)

    async def ask(self, **body: Any) -> None:
        began = time.monotonic()
        leaves = asyncio.Event()
        content: bytes | None = json.dumps(NO_RETRIES | body).encode()

        async def receive() -> Message:
            nonlocal content
            if content is not None:
                sent, content = content, None
                return {"type": "http.request", "body": sent}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message.get("body"):
                self.pieces.append((time.monotonic() - began, message["body"]))
                self.recorded.append(len(await records(self.app)))
                if self.leaves_after is not None and self.leaves_after.encode() in message["body"]:
                    leaves.set()

        await self.app.app(self._scope(), receive, send)

    def _scope(self) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "POST",
            "path": "/chat/completions",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "extensions": {STREAMED: {}},
        }


async def records(app: CompletionsApp) -> list[SpendRow]:
    async with app.gateway.store.session() as tables:
        return [entry for entry in await tables.spend.page(Caller(admin=True), SpendFilter(), limit=100)]


async def test_each_answer_leaves_once_it_and_those_before_it_are_there(completions_app: CompletionsApp) -> None:
    completions_app.set_latency("general", answer=0.5)
    client = Client(completions_app)
    await client.ask(model=["mini", "general", "special"], messages=HELLO)
    assert [completion(one).model for one in json.loads(client.content)] == ["mini", "general", "special"]
    assert client.came_at('"mini"') < 0.3
    assert 0.5 <= client.came_at('"general"') <= client.came_at('"special"')


async def test_rows_leave_as_they_are_ready_too(completions_app: CompletionsApp) -> None:
    completions_app.set_latency("general", answer=0.3)
    client = Client(completions_app)
    await client.ask(model=["mini", "general"], messages=[HELLO] * 3)
    rows = json.loads(client.content)
    assert [[completion(one).model for one in row] for row in rows] == [["mini", "general"]] * 3
    assert client.came_at('"mini"') < 0.2


async def test_an_error_stands_in_its_place_after_others_have_left(completions_app: CompletionsApp) -> None:
    completions_app.set_latency("general", answer=0.2)
    completions_app.provider.fail(Fault(kind="refuse", account="azure-general"))
    client = Client(completions_app)
    await client.ask(model=["mini", "general", "mini"], messages=HELLO)
    assert ["error" in one for one in json.loads(client.content)] == [False, True, False]


@pytest.mark.parametrize("body", [{"model": ["mini", "general"]}, {"model": "mini", "stream": True}])
async def test_who_has_the_end_finds_the_record(completions_app: CompletionsApp, body: dict[str, Any]) -> None:
    client = Client(completions_app)
    await client.ask(messages=HELLO, **body)
    assert client.pieces[-1][1] in (b"]", b"data: [DONE]\n\n")
    assert client.recorded[-2:] == [0, 2 if "stream" not in body else 1]


async def test_blanks_keep_the_connection_alive(
    completions_app: CompletionsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("completions.request_calls.BLANK_SECONDS", 0.05)
    completions_app.set_latency("mini", answer=0.4)
    client = Client(completions_app)
    await client.ask(model=["mini", "general"], messages=HELLO)
    assert [piece for _, piece in client.pieces].count(b"\n") > 3
    assert len(json.loads(client.content)) == 2


async def test_a_client_that_leaves_is_charged_for_what_came(completions_app: CompletionsApp) -> None:
    completions_app.set_latency("general", answer=9)
    client = Client(completions_app, leaves_after='"mini"')
    async with asyncio.timeout(2):
        await client.ask(model=["mini", "general"], messages=HELLO)
    statuses = {entry.model_group: (entry.status, entry.output_tokens > 0) for entry in await records(completions_app)}
    assert statuses == {"mini": (200, True), "general": (499, False)}


@pytest.mark.parametrize("body", [{"model": ["mini", "general"]}, {"model": "mini", "stream": True}])
async def test_the_record_is_written_before_the_app_ends(
    completions_app: CompletionsApp, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    """Also if the client leaves: nothing runs between two invocations."""
    record = Functions.record

    async def slow(functions: Functions, *arguments: Any) -> str | None:
        await asyncio.sleep(0.2)
        return await record(functions, *arguments)

    monkeypatch.setattr(Functions, "record", slow)
    completions_app.set_latency("mini", between_tokens=0.1)
    completions_app.set_latency("general", answer=9)
    client = Client(completions_app, leaves_after='"mini"')
    async with asyncio.timeout(3):
        await client.ask(messages=HELLO, **body)
    assert len(await records(completions_app)) == (1 if "stream" in body else 2)


async def test_an_array_may_take_longer_than_api_gateway_waits_for_a_byte(
    completions_app: CompletionsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its first byte leaves at once, and blanks follow."""
    monkeypatch.setattr("completions.api_gateway.IDLE_SECONDS", 0.5)
    monkeypatch.setattr("completions.api_gateway.MARGIN_SECONDS", 0.1)
    completions_app.set_latency("mini", answer=0.8)
    status, error = await completions_app.error(model="mini", messages=HELLO)
    assert (status, error["code"]) == (504, "deadline_exceeded")
    client = Client(completions_app)
    await client.ask(model=["mini", "general"], messages=HELLO)
    assert [completion(one).model for one in json.loads(client.content)] == ["mini", "general"]
