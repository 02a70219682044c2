"""The Responses API, of a batch's lines alone: https://platform.openai.com/docs/api-reference/responses/create"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from local.provider.answers import Answer, chat_answer
from local.provider.asks import Tokens, chat_ask, read_ask
from local.provider.strict import Strict


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


class ResponsesAsk(Strict):
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


def response_object(body: Mapping[str, Any], dialect: str, mark: str, created: int) -> dict[str, Any]:
    """The model says what it would say in a chat; a `Refusal` for a body that the API does not take."""
    ask = read_ask(ResponsesAsk, body)
    answer = chat_answer(chat_ask(dict(_as_chat(ask))), dialect)
    usage = answer.usage()
    return {
        "id": f"resp_{mark}",
        "object": "response",
        "created_at": created,
        "status": "completed",
        "model": ask.model,
        "output": [_item(answer, mark)],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def _as_chat(ask: ResponsesAsk) -> Iterator[tuple[str, Any]]:
    """The members of a chat's request that mean the same."""
    system = [{"role": "system", "content": ask.instructions}] if ask.instructions else []
    yield "model", ask.model
    yield "messages", [*system, *_messages(ask.input)]
    yield from ask.model_dump(include={"temperature", "top_p"}, exclude_none=True).items()
    if ask.max_output_tokens is not None:
        yield "max_completion_tokens", ask.max_output_tokens
    if ask.text.format is not None:
        yield "response_format", _format(ask.text.format)
    if ask.tools:
        yield "tools", [_function(tool.model_dump(exclude={"type"}, exclude_none=True)) for tool in ask.tools]
    if isinstance(ask.tool_choice, NamedTool):
        yield "tool_choice", _function({"name": ask.tool_choice.name})
    elif ask.tool_choice is not None:
        yield "tool_choice", ask.tool_choice


def _messages(said: str | list[Item]) -> list[dict[str, Any]]:
    items = [Item(role="user", content=said)] if isinstance(said, str) else said
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


def _item(answer: Answer, mark: str) -> dict[str, Any]:
    [said] = answer.choices
    if said.tool is not None:
        called = {"call_id": f"call_{mark}", "name": said.tool, "arguments": said.text}
        return {"id": f"fc_{mark}", "type": "function_call", "status": "completed", **called}
    content = [{"type": "output_text", "text": said.text, "annotations": []}]
    return {"id": f"msg_{mark}", "type": "message", "role": "assistant", "status": "completed", "content": content}
