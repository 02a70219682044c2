"""What these dialects have in common: who calls, what the model was asked, and the pace of its answer."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, ValidationError

from local.provider.accounts import Account
from local.provider.refusal import Refusal
from local.provider.state import ProviderState
from local.provider.talk import FILTER_MARK, Said, count, cut, example

CONTEXT_TOKENS = 8_192
AskT = TypeVar("AskT", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Caller:
    state: ProviderState
    account: Account
    body: dict[str, Any]

    def check_model(self, model: object, refusal: Refusal) -> None:
        if model not in self.account.models:
            raise refusal


@dataclass(frozen=True, slots=True)
class Heard:
    """One conversation as far as the simulated model understands it."""

    texts: Sequence[str]
    """All that was said, the last of it last."""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The schema of each tool's arguments, by its name."""
    must_call: bool = False
    may_call: bool = True
    only: str | None = None
    schema: Mapping[str, Any] | None = None
    """That of the answer, if it must be JSON of one."""
    stops: Sequence[str] = ()
    limit: int | None = None

    @property
    def asked(self) -> str:
        return self.texts[-1] if self.texts else ""

    @property
    def prompt(self) -> int:
        return sum(map(count, self.texts))

    def said(self) -> Said:
        """What the model answers: the same to the same."""
        if FILTER_MARK in self.asked:
            return Said("", "content_filter")
        tool = self._tool()
        if tool is not None:
            return Said(json.dumps(example(self.tools[tool], self.asked)), "tool_calls", tool)
        text = f"echo: {self.asked}" if self.schema is None else json.dumps(example(self.schema, self.asked))
        return cut(text, list(self.stops), self.limit)

    def _tool(self) -> str | None:
        if not self.may_call or not self.tools:
            return None
        if self.must_call:
            return self.only or next(iter(self.tools))
        return next((name for name in self.tools if name in self.asked), None)


async def caller(request: Request, account: str, dialect: str, key: str, unauthorised: Refusal) -> Caller:
    """Check the account and its key, note the call, and read the body."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, dialect)
    if key != known.key:
        raise unauthorised
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(400, None, "The request body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise Refusal(400, None, "The request body is no JSON object.")
    request.state.entry.update(parameters=sorted(body), body=body)
    await asyncio.sleep(state.latency(account).answer)
    return Caller(state, known, body)


def bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def read(kind: type[AskT], body: Mapping[str, Any], words: str = "{path}: {problem}", status: int = 400) -> AskT:
    """The body as `kind`, or a refusal that names the first thing wrong with it."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise Refusal(status, None, words.format(path=path, problem=first["msg"])) from error


def paced(who: Caller, events: Iterable[bytes], content_type: str = "text/event-stream") -> StreamingResponse:
    latency = who.state.latency(who.account.name)

    async def told() -> AsyncIterator[bytes]:
        pause = latency.first_token
        for event in events:
            await asyncio.sleep(pause)
            pause = latency.between_tokens
            yield event

    return StreamingResponse(told(), media_type=content_type)


def mark() -> str:
    return secrets.token_hex(12)
