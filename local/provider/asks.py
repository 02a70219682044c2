"""What a request for a completion may say, as strictly as OpenAI reads it.

https://platform.openai.com/docs/api-reference/chat/create
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from local.provider.refusal import Refusal
from local.provider.schemas import check_strict

Tokens = Annotated[int, Field(ge=1)]
Stop = str | Annotated[list[str], Field(min_length=1, max_length=4)] | None
AskT = TypeVar("AskT", bound=BaseModel)
REASONING = re.compile(r"o\d.*|gpt-5(?!-chat|\.[1-4]).*|.*-reasoning")
"""Models' own names, and those of deployments that end so."""
UNKNOWN = "extra_forbidden"
MISSING = "missing"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(BaseModel):
    """A part of a message's content; each type carries its matter under its own name."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: str | None = None


class Called(Strict):
    name: str
    arguments: str


class ToolCall(Strict):
    id: Annotated[str, Field(max_length=40)]
    type: Literal["function"]
    function: Called


class System(Strict):
    role: Literal["system", "developer"]
    content: str | list[Part]
    name: str | None = None


class User(Strict):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1)]
    name: str | None = None


class Assistant(Strict):
    """What a client hands back: what `ChatCompletionAssistantMessageParam` has, and an answer's `annotations`."""

    role: Literal["assistant"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[dict[str, Any]] | None = None
    audio: dict[str, Any] | None = None
    function_call: Called | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def says_something(self) -> "Assistant":
        if self.content is None and not (self.tool_calls or self.function_call or self.refusal or self.audio):
            raise ValueError("expected a string, got null")
        return self


class ToolResult(Strict):
    role: Literal["tool"]
    content: str | list[Part]
    tool_call_id: Annotated[str, Field(max_length=40)]


Message = Annotated[System | User | Assistant | ToolResult, Field(discriminator="role")]


class Function(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    name: str


class NamedTool(Strict):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class Sampling(Strict):
    """What all completions take."""

    model: str
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    user: str | None = None


class ChatAsk(Sampling):
    messages: Annotated[list[Message], Field(min_length=1)]
    audio: dict[str, Any] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: dict[str, Any] | None = None


class TextAsk(Sampling):
    prompt: str | Annotated[list[str], Field(min_length=1)]
    best_of: int | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    suffix: str | None = None


class EmbeddingAsk(Strict):
    model: str
    input: str | Annotated[list[str], Field(min_length=1)] | list[int] | list[list[int]]
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


def chat_ask(body: Mapping[str, Any]) -> ChatAsk:
    """The request, or a `Refusal` for what is wrong with it: its shape first, then what its parts say of each other."""
    ask = read_ask(ChatAsk, body)
    _check_sampling(ask)
    _check_schemas(ask)
    _check_tool_results(ask.messages)
    if ask.tool_choice is not None and ask.tools is None:
        raise _invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if ask.top_logprobs is not None and not ask.logprobs:
        raise _invalid("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
    if ask.max_tokens is not None and ask.max_completion_tokens is not None:
        raise _invalid("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", None)
    return ask


def read_ask(kind: type[AskT], body: Mapping[str, Any]) -> AskT:
    """The body as `kind`, or a `Refusal` in OpenAI's words."""
    try:
        ask = kind.model_validate(body)
    except ValidationError as error:
        raise _refusal(error) from error
    if body.get("stream_options") is not None and not body.get("stream"):
        raise _invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return ask


def _refusal(error: ValidationError) -> Refusal:
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"])
    if first["type"] == UNKNOWN:
        return Refusal(400, "unknown_parameter", f"Unknown parameter: '{param}'.", param)
    if first["type"] == MISSING:
        return Refusal(400, "missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    return Refusal(400, "invalid_value", f"Invalid value for '{param}': {first['msg']}", param)


def _check_schemas(ask: ChatAsk) -> None:
    form = ask.response_format
    if form is not None and form.type == "json_schema":
        if form.json_schema is None:
            words = "Missing required parameter: 'response_format.json_schema'."
            raise Refusal(400, "missing_required_parameter", words, "response_format.json_schema")
        if form.json_schema.strict:
            check_strict(form.json_schema.schema_, form.json_schema.name, "response_format")
    for index, tool in enumerate(ask.tools or ()):
        if tool.function.strict:
            check_strict(tool.function.parameters or {}, tool.function.name, f"tools[{index}].function.parameters")


def _check_sampling(ask: ChatAsk) -> None:
    """Reasoning models sample by themselves, and say so in these words."""
    if REASONING.fullmatch(ask.model) is None or ask.reasoning_effort == "none":
        return
    if ask.temperature not in (None, 1):
        words = f"Unsupported value: 'temperature' does not support {ask.temperature} with this model."
        words += " Only the default (1) value is supported."
        raise Refusal(400, "unsupported_value", words, "temperature")
    for name, default in (("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0), ("logprobs", False)):
        if getattr(ask, name) not in (None, default):
            words = f"Unsupported parameter: '{name}' is not supported with this model."
            raise Refusal(400, "unsupported_parameter", words, name)


def _check_tool_results(messages: list[Message]) -> None:
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        if isinstance(message, ToolResult):
            if message.tool_call_id not in open_calls:
                words = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise _invalid(words, f"messages.[{number}].role")
            open_calls.discard(message.tool_call_id)
        elif isinstance(message, Assistant) and message.tool_calls:
            open_calls = {call.id for call in message.tool_calls}
        elif open_calls:
            raise _invalid("An assistant message with 'tool_calls' must be followed by their results.", "messages")


def _invalid(message: str, param: str | None) -> Refusal:
    return Refusal(400, "invalid_value", message, param)
