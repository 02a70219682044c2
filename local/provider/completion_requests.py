"""The requests for completions and embeddings, as strict as OpenAI is.

https://platform.openai.com/docs/api-reference/chat/create
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from local.provider.chat_options import (
    AudioOptions,
    CacheOptions,
    Moderation,
    Prediction,
    StreamOptions,
    WebSearchOptions,
)
from local.provider.messages import Assistant, Message, ToolResult
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict
from local.provider.strict_schemas import check_strict
from local.provider.tools import Function, FunctionTool, Name, Tool, ToolChoice, ToolName

Tokens = Annotated[int, Field(ge=1)]
Texts = Annotated[list[str], Field(min_length=1)]
Tokenized = Annotated[list[int], Field(min_length=1)]
Prompts = str | Texts | Tokenized | Annotated[list[Tokenized], Field(min_length=1)]
Stop = str | Annotated[list[str], Field(min_length=1, max_length=4)] | None
RequestT = TypeVar("RequestT", bound=BaseModel)
REASONING = re.compile(r"o\d.*|gpt-5(?!-chat|\.[1-4]).*|.*-reasoning")
"""The names of reasoning models, and those of deployments that end with `-reasoning`."""
UNKNOWN = "extra_forbidden"
MISSING = "missing"


class JsonSchema(Strict):
    name: Name
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Sampling(Strict):
    """The parameters of both kinds of completions."""

    model: str
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
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


class ChatRequest(Sampling):
    messages: Annotated[list[Message], Field(min_length=1)]
    audio: AudioOptions | None = None
    function_call: Literal["none", "auto"] | ToolName | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=128)] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: Moderation | None = None
    parallel_tool_calls: bool | None = None
    prediction: Prediction | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    tool_choice: ToolChoice | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: WebSearchOptions | None = None


class TextRequest(Sampling):
    prompt: Prompts | None = None
    """Without a prompt, the model begins a new document."""
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    suffix: str | None = None


class EmbeddingRequest(Strict):
    model: str
    input: Prompts
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """The request, or a `Refusal` that says what is wrong: first its shape, then parameters that exclude each other."""
    request = parse(ChatRequest, body)
    _check_sampling(request)
    _check_schemas(request)
    _check_tool_results(request.messages)
    _check_pairs(request)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise _invalid("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", None)
    return request


def parse_text(body: Mapping[str, Any]) -> TextRequest:
    """The request, or a `Refusal` that says what is wrong."""
    request = parse(TextRequest, body)
    if request.best_of is not None and request.best_of < (request.n or 1):
        raise _invalid("'best_of' must be greater than or equal to 'n'.", "best_of")
    if request.stream and (request.best_of or 1) > (request.n or 1):
        raise _invalid("Results of 'best_of' cannot be streamed.", "best_of")
    return request


def parse(kind: type[RequestT], body: Mapping[str, Any]) -> RequestT:
    """The body as `kind`, or a `Refusal` in OpenAI's words."""
    try:
        request = kind.model_validate(body)
    except ValidationError as error:
        raise _refusal(error, body) from error
    if body.get("stream_options") is not None and not body.get("stream"):
        raise _invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return request


def _refusal(error: ValidationError, body: Mapping[str, Any]) -> Refusal:
    # The variant of a union that fits the body best has the longest path.
    first = max(error.errors(), key=lambda one: len(one["loc"]))
    param = ".".join(_path(first["loc"], body))
    if first["type"] == UNKNOWN:
        return Refusal(400, "unknown_parameter", f"Unknown parameter: '{param}'.", param)
    if first["type"] == MISSING:
        return Refusal(400, "missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    return Refusal(400, "invalid_value", f"Invalid value for '{param}': {first['msg']}", param)


def _path(loc: Sequence[int | str], body: Any) -> Iterator[str]:
    """The place in the body: pydantic's `loc` without the variants of unions that it names."""
    for part in loc[:-1]:
        if isinstance(part, int) if isinstance(body, list) else isinstance(body, dict) and part in body:
            yield str(part)
            body = body[part]
    yield str(loc[-1])


def _check_pairs(request: ChatRequest) -> None:
    """Parameters that are only allowed together with another one."""
    for name, needed, is_there in (
        ("tool_choice", "'tools' are specified", request.tools),
        ("parallel_tool_calls", "'tools' are specified", request.tools),
        ("function_call", "'functions' are specified", request.functions),
        ("top_logprobs", "'logprobs' is true", request.logprobs),
    ):
        if getattr(request, name) is not None and not is_there:
            raise _invalid(f"'{name}' is only allowed when {needed}.", name)
    if "audio" in (request.modalities or ()) and request.audio is None:
        raise Refusal(400, "missing_required_parameter", "Missing required parameter: 'audio'.", "audio")


def _check_schemas(request: ChatRequest) -> None:
    form = request.response_format
    if form is not None and form.type == "json_schema":
        if form.json_schema is None:
            words = "Missing required parameter: 'response_format.json_schema'."
            raise Refusal(400, "missing_required_parameter", words, "response_format.json_schema")
        if form.json_schema.strict:
            check_strict(form.json_schema.schema_, form.json_schema.name, "response_format")
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, FunctionTool) and tool.function.strict:
            check_strict(tool.function.parameters or {}, tool.function.name, f"tools[{index}].function.parameters")


def _check_sampling(request: ChatRequest) -> None:
    """Reasoning models refuse sampling parameters, in these words."""
    if REASONING.fullmatch(request.model) is None or request.reasoning_effort == "none":
        return
    if request.temperature not in (None, 1):
        words = f"Unsupported value: 'temperature' does not support {request.temperature} with this model."
        words += " Only the default (1) value is supported."
        raise Refusal(400, "unsupported_value", words, "temperature")
    for name, default in (("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0), ("logprobs", False)):
        if getattr(request, name) not in (None, default):
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
