"""The rows of Cohere's batches, and their results. A dataset's type says which rows it has.

Nobody documents the rows of chat. These are as clients found them by the real API: those of `batch-chat-v2-input` are
stricter than the requests of `/v2/chat`. A content is a list, the schema of a tool's parameters a text, an image its
URL, and what is not in `ChatRow` is malformed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, ValidationError, field_validator

from local.provider.completion_objects import DIMENSIONS, Stamp
from local.provider.echo_model import count, numbers
from local.provider.lenient_json import dumps, loads
from local.provider.line_shape import Answer, Marks, Problem, Request, Unanswered
from local.provider.native.cohere import ChatRequest, ToolCall, completion
from local.provider.native.common import read
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

CHAT, EMBED = "batch-chat-v2-input", "batch-embed-v2-input"
MAX_TEXTS, MAX_ROWS = 96, 1_000_000


class RowPart(Strict):
    type: Literal["text", "image_url", "thinking"]
    text: str | None = None
    thinking: str | None = None
    image_url: str | None = None


class RowMessage(Strict):
    role: Literal["system", "user", "assistant", "tool"]
    content: list[RowPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_plan: str | None = None
    tool_call_id: str | None = None


class RowFunction(Strict):
    name: str
    parameters: str
    description: str | None = None

    @field_validator("parameters")
    @classmethod
    def is_object(cls, parameters: str) -> str:
        if type(json.loads(parameters)) is not dict:
            raise ValueError("must be a JSON object")
        return parameters


class RowTool(Strict):
    type: Literal["function"]
    function: RowFunction


class Body(Protocol):
    def answer(self, model: str, stamp: Stamp) -> dict[str, Any]:
        """Raises a `Refusal`."""
        ...


class ChatRow(Strict):
    messages: Annotated[list[RowMessage], Field(min_length=1)]
    tools: list[RowTool] | None = None
    temperature: float | None = None
    p: float | None = None
    k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    max_input_tokens: int | None = None
    logprobs: bool | None = None
    return_prompt: bool | None = None
    reasoning: bool | None = None
    thinking_budget: int | None = None

    def answer(self, model: str, stamp: Stamp) -> dict[str, Any]:
        own = {"messages", "tools", "max_input_tokens", "return_prompt", "reasoning", "thinking_budget"}
        body = self.model_dump(exclude_none=True, exclude=own)
        body |= {"model": model, "stream": False, "messages": [_message(message) for message in self.messages]}
        if self.tools:
            body["tools"] = [_tool(tool) for tool in self.tools]
        if self.reasoning is not None:
            budget = {} if self.thinking_budget is None else {"token_budget": self.thinking_budget}
            body["thinking"] = {"type": "enabled" if self.reasoning else "disabled", **budget}
        answer = completion(read(ChatRequest, body, "invalid request: parameter '{path}': {problem}"))
        return answer | {"id": stamp.id_suffix}


class EmbedRow(Strict):
    input_type: Literal["search_document", "search_query", "classification", "clustering", "image"]
    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    embedding_types: tuple[Literal["float", "int8"], ...] = ("float",)
    truncate: Literal["NONE", "START", "END"] = "END"
    max_tokens: int | None = None

    def answer(self, model: str, stamp: Stamp) -> dict[str, Any]:
        floats = [numbers(text, DIMENSIONS) for text in self.texts]
        kinds = {"float": floats, "int8": [[int(value * 100) % 128 for value in vector] for vector in floats]}
        return {
            "id": stamp.id_suffix,
            "embeddings": {kind: kinds[kind] for kind in self.embedding_types},
            "texts": self.texts,
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": float(sum(map(count, self.texts)))},
            },
        }


BODIES: Mapping[str, type[ChatRow] | type[EmbedRow]] = {CHAT: ChatRow, EMBED: EmbedRow}


class CohereRows:
    """Rows of `custom_id` and `body`, whose model is the batch's. Answers and failures are in one list; what was not
    answered is left out."""

    marks = Marks(response=b'"body":{', first_member=b'"id":"again",', content=b'"text":"')
    max_lines = MAX_ROWS
    one_list = True
    shuffled = False
    endings: Mapping[str, Unanswered] = {}

    def __init__(self, kind: str, model: str) -> None:
        self._kind = kind
        self._model = model

    def read(self, raw: bytes) -> Request:
        """Raises a `Problem` for a row that its dataset does not take."""
        try:
            line = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "invalid JSON") from error
        if not isinstance(line, dict) or line.keys() != {"custom_id", "body"}:
            raise Problem("malformed_row", "a row has custom_id and body")
        if not isinstance(line["custom_id"], str) or not line["custom_id"]:
            raise Problem("malformed_row", "custom_id must be a text")
        self._body(line["body"])
        return Request(line["custom_id"], line["body"], None, "", line)

    def problems(self, request: Request) -> Iterator[Problem]:
        yield from ()

    def tried(self, request: Request) -> str:
        return request.id

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        body = self._body(request.body).answer(self._model, stamp)
        units = body["usage"]["tokens"] if "usage" in body else body["meta"]["billed_units"]
        line = dumps({"custom_id": request.id, "error": "", "body": body}) + b"\n"
        return Answer(True, line, int(units["input_tokens"]), int(units.get("output_tokens", 0)))

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        return dumps({"custom_id": request.id, "error": refusal.message, "body": None}) + b"\n"

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        return dumps({"custom_id": request.id, "error": why.message, "body": None}) + b"\n"

    def _body(self, body: object) -> Body:
        try:
            return BODIES[self._kind].model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise Problem("malformed_row", f"body.{path}: {first['msg']}") from error


def _message(message: RowMessage) -> dict[str, Any]:
    shown = message.model_dump(exclude_none=True)
    for part in shown.get("content", ()):
        if "image_url" in part:
            part["image_url"] = {"url": part["image_url"]}
    return shown


def _tool(tool: RowTool) -> dict[str, Any]:
    shown = tool.model_dump(exclude_none=True)
    shown["function"]["parameters"] = json.loads(tool.function.parameters)
    return shown
