"""Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from local.provider.echo_model import ModelOutput, count
from local.provider.native.anthropic_messages import Message, Text, ToolResult, check_messages, words
from local.provider.native.claude import check_limit, check_sampling, check_stops, check_user
from local.provider.native.common import CONTEXT_TOKENS, Conversation, authenticate, new_id, paced, read
from local.provider.native.error_formats import server_sent_event
from local.provider.native.json_schemas import check
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

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


class MessagesRequest(Strict):
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
    def system_blocks(self) -> list[Text]:
        return [Text(type="text", text=self.system)] if isinstance(self.system, str) else self.system or []

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"


router = APIRouter()


@router.post("/v1/messages")
async def create_message(http_request: Request, account: str) -> Response:
    caller = await authenticate(
        http_request, account, "anthropic", http_request.headers.get("x-api-key", ""), UNAUTHORISED
    )
    if http_request.headers.get("anthropic-version") != "2023-06-01":
        raise Refusal(400, None, "anthropic-version: header is required")
    request = read(MessagesRequest, caller.body)
    caller.check_model(request.model, Refusal(404, None, f"model: {request.model}"))
    output, prompt = _answered(request)
    if request.stream:
        return paced(caller, _events(request, output, prompt))
    return JSONResponse(_message(request, output, prompt))


def message(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a body without `stream`, as batches have it; raises a `Refusal` for one that is not taken."""
    request = read(MessagesRequest, body)
    return _message(request, *_answered(request))


def _answered(request: MessagesRequest) -> tuple[ModelOutput, int]:
    """The model's answer, and the tokens of the prompt."""
    _check(request)
    conversation = _conversation(request)
    if conversation.prompt_tokens > CONTEXT_TOKENS:
        raise Refusal(400, None, f"prompt is too long: {conversation.prompt_tokens} tokens > {CONTEXT_TOKENS} maximum")
    return conversation.answer(), conversation.prompt_tokens


def _check(request: MessagesRequest) -> None:
    thinking = request.thinking
    if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is None:
        raise Refusal(400, None, "thinking.enabled.budget_tokens: Field required")
    given = thinking.model_dump() if thinking else None
    check_limit(request.model, request.max_tokens, given)
    check_sampling(request.model, request.model_dump(include={"temperature", "top_p", "top_k"}), given)
    check_stops(request.stop_sequences)
    check_user(request.metadata.user_id if request.metadata else None)
    _check_schemas(request)
    if request.thinks and request.tool_choice is not None and request.tool_choice.type in ("any", "tool"):
        raise Refusal(400, None, "Thinking may not be enabled when tool_choice forces tool use.")
    if request.tool_choice is not None and not request.tools:
        raise Refusal(400, None, "tool_choice: may only be specified while providing tools")
    check_messages(request.system_blocks, request.messages)


def _check_schemas(request: MessagesRequest) -> None:
    if request.output_config.format is not None:
        check(request.output_config.format.schema_, "output_config.format.schema")
    for index, tool in enumerate(request.tools):
        if tool.strict:
            check(tool.input_schema.model_dump(), f"tools.{index}.custom")


def _conversation(request: MessagesRequest) -> Conversation:
    choice = request.tool_choice or ToolChoice(type="auto")
    form = request.output_config.format
    texts = [words(message.content) for message in request.messages]
    return Conversation(
        texts=[*(words([block]) for block in request.system_blocks), *texts],
        tools={tool.name: tool.input_schema.model_dump() for tool in request.tools},
        must_call=choice.type in ("any", "tool"),
        may_call=choice.type != "none" and not isinstance(request.messages[-1].content[-1], ToolResult),
        only=choice.name,
        schema=form.schema_ if form else None,
        stops=request.stop_sequences,
        limit=request.max_tokens,
    )


def _usage(output: ModelOutput, prompt: int) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": count(output.text),
        "service_tier": "standard",
    }


def _stop(output: ModelOutput) -> dict[str, Any]:
    refused = {"type": "refusal", "category": "general_harms", "explanation": "The model declined to answer."}
    details = {"stop_details": refused} if output.finish == "content_filter" else {}
    return {"stop_reason": STOPS[output.finish], "stop_sequence": None, **details}


def _frame(request: MessagesRequest) -> dict[str, Any]:
    return {"id": f"msg_{new_id()}", "type": "message", "role": "assistant", "model": request.model, "content": []}


def _message(request: MessagesRequest, output: ModelOutput, prompt: int) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": output.text}] if output.text else []
    if output.tool is not None:
        content = [
            {"type": "tool_use", "id": f"toolu_{new_id()}", "name": output.tool, "input": json.loads(output.text)}
        ]
    if request.thinks:
        content.insert(0, {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE})
    return _frame(request) | {"content": content, **_stop(output), "usage": _usage(output, prompt)}


def _events(request: MessagesRequest, output: ModelOutput, prompt: int) -> Iterator[bytes]:
    def event(name: str, **data: Any) -> bytes:
        return server_sent_event({"type": name, **data}, name)

    usage = _usage(output, prompt)
    unended = {"stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 1}}
    yield event("message_start", message=_frame(request) | unended)
    yield event("ping")
    index = 0
    if request.thinks:
        yield event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
        yield event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": THOUGHT})
        yield event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": SIGNATURE})
        yield event("content_block_stop", index=0)
        index = 1
    block: dict[str, Any] = {"type": "text", "text": ""}
    if output.tool is not None:
        block = {"type": "tool_use", "id": f"toolu_{new_id()}", "name": output.tool, "input": {}}
    yield event("content_block_start", index=index, content_block=block)
    for token in output.tokens:
        piece = {"type": "input_json_delta", "partial_json": token}
        delta = {"type": "text_delta", "text": token} if output.tool is None else piece
        yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)
    yield event("message_delta", delta=_stop(output), usage={"output_tokens": usage["output_tokens"]})
    yield event("message_stop")
