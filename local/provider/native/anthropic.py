"""Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from local.provider.native.anthropic_messages import Message, Text, ToolResult, check_messages, words
from local.provider.native.claude import check_limit, check_sampling, check_stops, check_user
from local.provider.native.heard import CONTEXT_TOKENS, Heard, Strict, caller, mark, paced, read
from local.provider.native.schemas import check
from local.provider.native.wordings import server_sent
from local.provider.refusal import Refusal
from local.provider.talk import Said, count

STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
UNAUTHORISED = Refusal(401, None, "invalid x-api-key")
THOUGHT, SIGNATURE = "I was asked to echo.", "c2lnbmVk"
LEAST_BUDGET = 1_024


class Schema(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["object"]


class Tool(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: Schema
    description: str | None = None
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class ToolChoice(Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Strict):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Field(ge=LEAST_BUDGET)] | None = None
    display: str | None = None


class Format(Strict):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Metadata(Strict):
    user_id: str | None = None


class Ask(Strict):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    system: str | Annotated[list[Text], Field(min_length=1)] | None = None
    stream: bool = False
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    stop_sequences: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig = OutputConfig()
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    @property
    def said_before(self) -> list[Text]:
        return [Text(type="text", text=self.system)] if isinstance(self.system, str) else self.system or []

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"


router = APIRouter()


@router.post("/v1/messages")
async def create_message(request: Request, account: str) -> Response:
    who = await caller(request, account, "anthropic", request.headers.get("x-api-key", ""), UNAUTHORISED)
    if request.headers.get("anthropic-version") != "2023-06-01":
        raise Refusal(400, None, "anthropic-version: header is required")
    ask = read(Ask, who.body)
    who.check_model(ask.model, Refusal(404, None, f"model: {ask.model}"))
    _check(ask)
    heard = _heard(ask)
    if heard.prompt > CONTEXT_TOKENS:
        raise Refusal(400, None, f"prompt is too long: {heard.prompt} tokens > {CONTEXT_TOKENS} maximum")
    said = heard.said()
    if ask.stream:
        return paced(who, _events(ask, said, heard.prompt))
    return JSONResponse(_message(ask, said, heard.prompt))


def _check(ask: Ask) -> None:
    thinking = ask.thinking
    if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is None:
        raise Refusal(400, None, "thinking.enabled.budget_tokens: Field required")
    told = thinking.model_dump() if thinking else None
    check_limit(ask.model, ask.max_tokens, told)
    check_sampling(ask.model, ask.model_dump(include={"temperature", "top_p", "top_k"}), told)
    check_stops(ask.stop_sequences)
    check_user(ask.metadata.user_id if ask.metadata else None)
    _check_schemas(ask)
    if ask.thinks and ask.tool_choice is not None and ask.tool_choice.type in ("any", "tool"):
        raise Refusal(400, None, "Thinking may not be enabled when tool_choice forces tool use.")
    if ask.tool_choice is not None and not ask.tools:
        raise Refusal(400, None, "tool_choice: may only be specified while providing tools")
    check_messages(ask.said_before, ask.messages)


def _check_schemas(ask: Ask) -> None:
    if ask.output_config.format is not None:
        check(ask.output_config.format.schema_, "output_config.format.schema")
    for index, tool in enumerate(ask.tools):
        if tool.strict:
            check(tool.input_schema.model_dump(), f"tools.{index}.custom")


def _heard(ask: Ask) -> Heard:
    choice = ask.tool_choice or ToolChoice(type="auto")
    form = ask.output_config.format
    texts = [words(message.content) for message in ask.messages]
    return Heard(
        texts=[*(words([block]) for block in ask.said_before), *texts],
        tools={tool.name: tool.input_schema.model_dump() for tool in ask.tools},
        must_call=choice.type in ("any", "tool"),
        may_call=choice.type != "none" and not isinstance(ask.messages[-1].content[-1], ToolResult),
        only=choice.name,
        schema=form.schema_ if form else None,
        stops=ask.stop_sequences,
        limit=ask.max_tokens,
    )


def _usage(said: Said, prompt: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": count(said.text),
        "service_tier": "standard",
    }


def _stop(said: Said) -> dict[str, Any]:
    refused = {"type": "refusal", "category": "general_harms", "explanation": "The model declined to answer."}
    details = {"stop_details": refused} if said.finish == "content_filter" else {}
    return {"stop_reason": STOPS[said.finish], "stop_sequence": None, **details}


def _frame(ask: Ask) -> dict[str, Any]:
    return {"id": f"msg_{mark()}", "type": "message", "role": "assistant", "model": ask.model, "content": []}


def _message(ask: Ask, said: Said, prompt: int) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    if said.tool is not None:
        content = [{"type": "tool_use", "id": f"toolu_{mark()}", "name": said.tool, "input": json.loads(said.text)}]
    if ask.thinks:
        content.insert(0, {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE})
    return _frame(ask) | {"content": content, **_stop(said), "usage": _usage(said, prompt)}


def _events(ask: Ask, said: Said, prompt: int) -> Iterator[bytes]:
    def event(name: str, **data: Any) -> bytes:
        return server_sent({"type": name, **data}, name)

    usage = _usage(said, prompt)
    unended = {"stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 1}}
    yield event("message_start", message=_frame(ask) | unended)
    yield event("ping")
    index = 0
    if ask.thinks:
        yield event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
        yield event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": THOUGHT})
        yield event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": SIGNATURE})
        yield event("content_block_stop", index=0)
        index = 1
    block: dict[str, Any] = {"type": "text", "text": ""}
    if said.tool is not None:
        block = {"type": "tool_use", "id": f"toolu_{mark()}", "name": said.tool, "input": {}}
    yield event("content_block_start", index=index, content_block=block)
    for token in said.tokens:
        piece = {"type": "input_json_delta", "partial_json": token}
        delta = {"type": "text_delta", "text": token} if said.tool is None else piece
        yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)
    yield event("message_delta", delta=_stop(said), usage={"output_tokens": usage["output_tokens"]})
    yield event("message_stop")
