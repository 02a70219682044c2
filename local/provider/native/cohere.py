"""Cohere's chat, version 2: https://docs.cohere.com/reference/chat"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse, Response

from local.provider.echo_model import FILTER_TRIGGER, ModelOutput, count
from local.provider.native.common import CONTEXT_TOKENS, Conversation, authenticate, bearer, new_id, paced, read
from local.provider.native.error_formats import server_sent_event
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}
UNAUTHORISED = Refusal(401, None, "invalid api token")
PLAN = "I will call the tool."


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class Part(Strict):
    type: Literal["text", "image_url", "thinking"]
    text: str | None = None
    thinking: str | None = None
    image_url: ImageUrl | None = None


class CalledFunction(Strict):
    name: str
    arguments: str

    @field_validator("arguments")
    @classmethod
    def is_object(cls, arguments: str) -> str:
        if type(json.loads(arguments)) is not dict:
            raise ValueError("must be a JSON object")
        return arguments


class ToolCall(Strict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class System(Strict):
    role: Literal["system"]
    content: str | list[Part]


class User(Strict):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1)]


class Assistant(Strict):
    role: Literal["assistant"]
    content: str | list[Part] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_plan: str | None = None


class ToolResult(Strict):
    role: Literal["tool"]
    content: str | list[Part]
    tool_call_id: str


Message = Annotated[System | User | Assistant | ToolResult, Field(discriminator="role")]


class Function(Strict):
    name: str
    parameters: dict[str, Any]
    description: str | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class ResponseFormat(Strict):
    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = None


class Thinking(Strict):
    type: Literal["enabled", "disabled"]
    token_budget: Annotated[int, Field(ge=1)] | None = None


class ChatRequest(Strict):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool
    tools: Annotated[list[Tool], Field(min_length=1)] | None = None
    strict_tools: bool | None = None
    tool_choice: Literal["REQUIRED", "NONE"] | None = None
    documents: list[Any] | None = None
    citation_options: dict[str, Any] | None = None
    response_format: ResponseFormat = ResponseFormat(type="text")
    safety_mode: Literal["CONTEXTUAL", "STRICT", "OFF"] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop_sequences: Annotated[tuple[str, ...], Field(max_length=5)] = ()
    temperature: Annotated[float, Field(ge=0)] | None = None
    seed: int | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=1)] | None = None
    k: Annotated[int, Field(ge=0, le=500)] | None = None
    p: Annotated[float, Field(ge=0.01, le=0.99)] | None = None
    logprobs: bool = False
    thinking: Thinking | None = None
    priority: int | None = None


router = APIRouter()


@router.post("/v2/chat")
async def chat(http_request: Request, account: str) -> Response:
    caller = await authenticate(http_request, account, "cohere", bearer(http_request), UNAUTHORISED)
    request = read(ChatRequest, caller.body, "invalid request: parameter '{path}': {problem}")
    caller.check_model(request.model, Refusal(404, None, f"model '{request.model}' not found"))
    output, prompt_tokens = _output(request)
    return (
        paced(caller, _events(output, prompt_tokens))
        if request.stream
        else JSONResponse(_answer(request, output, prompt_tokens))
    )


def completion(request: ChatRequest) -> dict[str, Any]:
    """The whole answer. Raises a `Refusal` for a request that the model does not answer."""
    return _answer(request, *_output(request))


def _output(request: ChatRequest) -> tuple[ModelOutput, int]:
    """What the model says, and the tokens of the prompt."""
    _check(request)
    conversation = _conversation(request)
    if conversation.prompt_tokens > CONTEXT_TOKENS:
        words = f"too many tokens: total number of tokens in the prompt cannot exceed {CONTEXT_TOKENS}"
        raise Refusal(400, None, f"{words} - received {conversation.prompt_tokens}.")
    if FILTER_TRIGGER in conversation.last_text:
        raise Refusal(498, None, "blocked input: please update the prompt and try again.")
    return conversation.answer(), conversation.prompt_tokens


def _check(request: ChatRequest) -> None:
    if request.tool_choice is not None and request.tools is None:
        raise Refusal(400, None, "invalid request: tool_choice is only allowed together with tools")
    called: set[str] = set()
    for message in request.messages:
        if not isinstance(message, ToolResult) and _is_silent(message):
            words = "message must be at least 1 token long or tool results must be specified."
            raise Refusal(400, None, f"invalid request: {words}")
        if isinstance(message, Assistant):
            called |= {call.id for call in message.tool_calls}
        elif isinstance(message, ToolResult) and message.tool_call_id not in called:
            raise Refusal(400, None, "invalid request: tool_call_id of a tool message must be of a preceding tool call")


def _is_silent(message: System | User | Assistant) -> bool:
    called = isinstance(message, Assistant) and message.tool_calls
    pictured = isinstance(message.content, list) and any(part.type != "text" for part in message.content)
    return not called and not pictured and not _words(message.content).strip()


def _conversation(request: ChatRequest) -> Conversation:
    schema = request.response_format.json_schema
    if schema is None and request.response_format.type == "json_object":
        schema = {"type": "object", "properties": {"echo": {"type": "string"}}}
    return Conversation(
        texts=[_words(message.content) for message in request.messages],
        tools={tool.function.name: tool.function.parameters for tool in request.tools or []},
        must_call=request.tool_choice == "REQUIRED",
        may_call=request.tool_choice != "NONE" and request.messages[-1].role != "tool",
        schema=schema,
        stops=request.stop_sequences,
        limit=request.max_tokens,
    )


def _words(content: str | Sequence[Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part.text if part.text is not None else f"[{part.type}]" for part in content)


def _usage(output: ModelOutput, prompt: int) -> dict[str, Any]:
    counts = {"input_tokens": float(prompt), "output_tokens": float(count(output.text))}
    return {"billed_units": counts, "tokens": counts, "cached_tokens": 0}


def _call(output: ModelOutput, arguments: str) -> dict[str, Any]:
    return {
        "id": f"{output.tool}_{new_id()}",
        "type": "function",
        "function": {"name": output.tool, "arguments": arguments},
    }


def _answer(request: ChatRequest, output: ModelOutput, prompt: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": output.text}]}
    if output.tool is not None:
        message = {"role": "assistant", "tool_plan": PLAN, "tool_calls": [_call(output, output.text)]}
    logprobs = [{"text": token, "token_ids": [1], "logprobs": [-0.1]} for token in output.tokens]
    return {
        "id": new_id(),
        "message": message,
        "finish_reason": FINISHES[output.finish],
        "usage": _usage(output, prompt),
        **({"logprobs": logprobs} if request.logprobs else {}),
    }


def _events(output: ModelOutput, prompt: int) -> Iterator[bytes]:
    def event(name: str, message: dict[str, Any] | None = None, **data: Any) -> bytes:
        delta = {} if message is None else {"delta": {"message": message}}
        return server_sent_event({"type": name, **data, **delta}, name)

    yield event("message-start", {"role": "assistant"}, id=new_id())
    if output.tool is None:
        yield event("content-start", {"content": {"type": "text", "text": ""}}, index=0)
        for token in output.tokens:
            yield event("content-delta", {"content": {"text": token}}, index=0)
        yield event("content-end", index=0)
    else:
        yield event("tool-plan-delta", {"tool_plan": PLAN})
        yield event("tool-call-start", {"tool_calls": _call(output, "")}, index=0)
        for token in output.tokens:
            yield event("tool-call-delta", {"tool_calls": {"function": {"arguments": token}}}, index=0)
        yield event("tool-call-end", index=0)
    yield event("message-end", delta={"finish_reason": FINISHES[output.finish], "usage": _usage(output, prompt)})
    yield b"data: [DONE]\n\n"
