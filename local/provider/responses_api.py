"""The Responses API, for the lines of batches only: https://platform.openai.com/docs/api-reference/responses/create"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from local.provider.completion_objects import Completion, Stamp, chat_completion
from local.provider.completion_requests import Tokens, parse, parse_chat
from local.provider.strict_model import Strict


class Format(Strict):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextOptions(Strict):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Tool(Strict):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(Strict):
    type: Literal["function"]
    name: str


class Item(BaseModel):
    """A message, if it has a role."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Any = None


class ResponsesRequest(Strict):
    model: str
    input: str | Annotated[list[Item], Field(min_length=1)]
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    reasoning: dict[str, Any] | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextOptions = TextOptions()
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    tools: list[Tool] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None


def response_object(body: Mapping[str, Any], dialect: str, stamp: Stamp) -> dict[str, Any]:
    """The model answers as in a chat; raises a `Refusal` for a body that the API does not take."""
    request = parse(ResponsesRequest, body)
    answer = chat_completion(parse_chat(dict(_as_chat(request))), dialect, stamp)
    usage = answer.usage()
    return {
        "id": f"resp_{stamp.id_suffix}",
        "object": "response",
        "created_at": stamp.created,
        "status": "completed",
        "model": request.model,
        "output": [_item(answer, stamp.id_suffix)],
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": request.temperature,
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": request.top_p,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def _as_chat(request: ResponsesRequest) -> Iterator[tuple[str, Any]]:
    """The parameters of a chat completion that mean the same."""
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    yield "model", request.model
    yield "messages", [*system, *_messages(request.input)]
    yield from request.model_dump(include={"temperature", "top_p"}, exclude_none=True).items()
    if request.max_output_tokens is not None:
        yield "max_completion_tokens", request.max_output_tokens
    if request.text.format is not None:
        yield "response_format", _format(request.text.format)
    if request.tools:
        yield "tools", [_function(tool.model_dump(exclude={"type"}, exclude_none=True)) for tool in request.tools]
    if isinstance(request.tool_choice, NamedTool):
        yield "tool_choice", _function({"name": request.tool_choice.name})
    elif request.tool_choice is not None:
        yield "tool_choice", request.tool_choice


def _messages(content: str | list[Item]) -> list[dict[str, Any]]:
    items = [Item(role="user", content=content)] if isinstance(content, str) else content
    return [{"role": item.role or "user", "content": _text(item.content)} for item in items]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in content)
    return str(content or "")


def _format(form: Format) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    schema = form.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
    return {"type": "json_schema", "json_schema": schema}


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}


def _item(answer: Completion, id_suffix: str) -> dict[str, Any]:
    [output] = answer.choices
    if output.tool is not None:
        called = {"call_id": f"call_{id_suffix}", "name": output.tool, "arguments": output.text}
        return {"id": f"fc_{id_suffix}", "type": "function_call", "status": "completed", **called}
    content = [{"type": "output_text", "text": output.text, "annotations": []}]
    return {"id": f"msg_{id_suffix}", "type": "message", "role": "assistant", "status": "completed", "content": content}
