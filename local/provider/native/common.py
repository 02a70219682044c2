"""What the native dialects share: authentication, the conversation as the simulated model reads it, and streaming."""

import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from local.provider.accounts import Account
from local.provider.batch import Batch
from local.provider.echo_model import FILTER_TRIGGER, ModelOutput, count, cut, example
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

CONTEXT_TOKENS = 8_192
RequestT = TypeVar("RequestT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Caller:
    state: ProviderState
    account: Account
    body: dict[str, Any]

    def check_model(self, model: object, refusal: Refusal) -> None:
        if model not in self.account.models:
            raise refusal


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation as far as the simulated model understands it."""

    texts: Sequence[str]
    """The text of each message, in order."""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The schema of each tool's arguments, by its name."""
    must_call: bool = False
    may_call: bool = True
    only: str | None = None
    schema: Mapping[str, Any] | None = None
    """The JSON schema that the answer must follow, if there is one."""
    stops: Sequence[str] = ()
    limit: int | None = None

    @property
    def last_text(self) -> str:
        return self.texts[-1] if self.texts else ""

    @property
    def prompt_tokens(self) -> int:
        return sum(map(count, self.texts))

    def answer(self) -> ModelOutput:
        """The answer of the model: always the same to the same conversation."""
        if FILTER_TRIGGER in self.last_text:
            return ModelOutput("", "content_filter")
        tool = self._tool()
        if tool is not None:
            return ModelOutput(json.dumps(example(self.tools[tool], self.last_text)), "tool_calls", tool)
        text = f"echo: {self.last_text}" if self.schema is None else json.dumps(example(self.schema, self.last_text))
        return cut(text, list(self.stops), self.limit)

    def _tool(self) -> str | None:
        if not self.may_call or not self.tools:
            return None
        if self.must_call:
            return self.only or next(iter(self.tools))
        return next((name for name in self.tools if name in self.last_text), None)


def identify(request: Request, account: str, dialect: str, key: str, unauthorised: Refusal) -> Caller:
    """Check the account and its key; the request's body is not read."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, dialect)
    if key != known.key:
        raise unauthorised
    return Caller(state, known, {})


async def authenticate(request: Request, account: str, dialect: str, key: str, unauthorised: Refusal) -> Caller:
    """Check the account and its key, log the request's body and return it with them, after the account's latency."""
    caller = identify(request, account, dialect, key, unauthorised)
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise Refusal(400, None, "The request body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise Refusal(400, None, "The request body is no JSON object.")
    request.state.entry.update(parameters=sorted(body), body=body)
    await caller.state.clock.sleep(caller.state.latency(account).answer)
    return Caller(caller.state, caller.account, body)


def log_create(request: Request, batch: Batch, *labels: str) -> None:
    """Log that the call created this batch. `labels`: what its client knows it by, where that is no metadata."""
    request.state.entry.update(
        batch_id=batch.id,
        metadata=batch.metadata,
        labels=list(labels),
        input_file_id=batch.file.id,
        lines=batch.file.lines,
        models=batch.file.models or tuple(filter(None, [batch.model])),
    )


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def read(
    kind: type[RequestT], body: Mapping[str, Any], words: str = "{path}: {problem}", status: int = 400
) -> RequestT:
    """The body as `kind`, or a refusal that names the first thing wrong with it."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise Refusal(status, None, words.format(path=path, problem=first["msg"])) from error


def paced(caller: Caller, events: Iterable[bytes], content_type: str = "text/event-stream") -> StreamingResponse:
    """The events as a stream, as fast as the account's latency says."""
    latency = caller.state.latency(caller.account.name)

    async def paced_events() -> AsyncIterator[bytes]:
        pause = latency.first_token
        for event in events:
            await caller.state.clock.sleep(pause)
            pause = latency.between_tokens
            yield event

    return StreamingResponse(paced_events(), media_type=content_type)


def new_id() -> str:
    return secrets.token_hex(12)
