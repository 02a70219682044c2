"""The requests that vLLM takes: any field, and those that it knows as strictly as it does.

https://github.com/vllm-project/vllm/tree/main/vllm/entrypoints/openai, `protocol.py` of each endpoint
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.provider.native.error_formats import VLLM_INVALID
from local.provider.refusal import Refusal

INT64 = 2**63
TokenIds = list[Annotated[int, Field(ge=0)]]
RequestT = TypeVar("RequestT", bound=BaseModel)
Kind = Literal["chat", "completions", "embeddings", "responses"]


class Open(BaseModel):
    """It takes fields that it does not know, and ignores them."""

    model_config = ConfigDict(extra="allow")


class StreamOptions(Open):
    include_usage: bool | None = True
    continuous_usage_stats: bool | None = False


class JsonSchema(Open):
    name: str
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Open):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Sampling(Open):
    """The parameters of both kinds of completions; `vllm_sampling` has their limits."""

    model: str | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    n: int | None = 1
    presence_penalty: float | None = None
    response_format: ResponseFormat | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: str | list[str] | None = []
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = []
    ignore_eos: bool = False
    min_tokens: int = 0
    prompt_logprobs: int | None = None
    priority: Annotated[int, Field(ge=-INT64, lt=INT64)] = 0

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class Message(Open):
    """Of any role."""

    role: str
    content: str | list[str | dict[str, Any]] | None = None


class Function(Open):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Open):
    type: Literal["function"] = "function"
    function: Function


class ToolName(Open):
    name: str


class NamedTool(Open):
    type: Literal["function"] = "function"
    function: ToolName


class ChatRequest(Sampling):
    messages: list[Message]
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = "none"
    parallel_tool_calls: bool | None = True
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class TextRequest(Sampling):
    n: int = 1
    prompt: TokenIds | list[TokenIds] | str | list[str] | None = None
    echo: bool | None = False
    logprobs: int | None = None
    suffix: str | None = None

    @property
    def limit(self) -> int:
        return 16 if self.max_tokens is None else self.max_tokens


class EmbeddingRequest(Open):
    model: str | None = None
    input: TokenIds | list[TokenIds] | str | list[str]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    priority: int = 0


class ResponsesRequest(Open):
    """A text in, a text out."""

    model: str | None = None
    input: str | list[dict[str, Any]]
    background: bool | None = False
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = True
    previous_response_id: str | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] = "auto"
    store: bool | None = True
    stream: bool | None = False
    temperature: float | None = None
    top_logprobs: int | None = 0
    top_p: float | None = None
    truncation: Literal["auto", "disabled"] | None = "disabled"
    user: str | None = None


def parse(kind: type[RequestT], body: Mapping[str, Any]) -> RequestT:
    """The request, or the `Refusal` of a body that is not valid: parameters that exclude each other come first."""
    for words, param in _conflicts(kind, body):
        raise invalid([{"type": "value_error", "loc": "body", "msg": f"Value error, {words}"}], param)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        errors = [
            {"type": one["type"], "loc": _place(kind, one["loc"]), "msg": one["msg"], "input": str(one["input"])[:200]}
            for one in error.errors()
        ]
        raise invalid(errors[:10], str(errors[0]["loc"])) from error


def invalid(errors: list[dict[str, Any]], param: str | None) -> Refusal:
    """The refusal of a body: FastAPI's errors within vLLM's own."""
    label = "1 validation error" if len(errors) == 1 else f"{len(errors)} validation errors"
    return Refusal(400, VLLM_INVALID, "\n  ".join([f"{label}:", *map(str, errors)]), param)


def _place(kind: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The place in the body, without the variants of unions that pydantic names."""
    variants = {"str", "int", "float", "bool", "list", "dict", "none", "NamedTool"}
    return ".".join(["body", *(str(part) for part in loc if str(part) not in variants and "[" not in str(part))])


def _conflicts(kind: type[BaseModel], body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if issubclass(kind, Sampling):
        yield from _format_conflicts(body)
        if body.get("stream_options") and not body.get("stream"):
            yield "Stream options can only be defined when `stream=True`.", "stream_options"
        yield from _logprob_conflicts(kind, body)
    if kind is ChatRequest:
        yield from _tool_conflicts(body)
    if kind is TextRequest and body.get("prompt") in (None, ""):
        yield "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"
    if kind is ResponsesRequest and body.get("background") and not body.get("store", True):
        yield "background can only be used when `store` is true", "background"


def _format_conflicts(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    form = body.get("response_format")
    if isinstance(form, dict) and form.get("type") == "json_schema" and form.get("json_schema") is None:
        words = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
        yield words, "response_format"


def _logprob_conflicts(kind: type[BaseModel], body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counted = "top_logprobs" if kind is ChatRequest else "logprobs"
    for name in ("prompt_logprobs", counted):
        count = body.get(name)
        if count is not None and not isinstance(count, int | float):
            yield f"`{name}` must be an integer.", name
        elif count is not None and count < 0 and count != -1:
            yield f"`{name}` must be a positive value or -1.", name
    if body.get("stream") and body.get("prompt_logprobs"):
        yield "`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs"
    if kind is ChatRequest and body.get("top_logprobs") and not body.get("logprobs"):
        yield "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs"


def _tool_conflicts(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools == []:
        words = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        yield words, "tools"
    if choice is None or choice == "none":
        return
    if tools is None:
        yield "When using `tool_choice`, `tools` must be set.", "tool_choice"
    if choice not in ("auto", "required") and not isinstance(choice, dict):
        words = (
            f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or "required" are supported.'
        )
        yield words, "tool_choice"
    if isinstance(choice, dict) and _name(choice) not in [_name(tool) for tool in tools or ()]:
        yield "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"


def _name(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function.get("name") if isinstance(function, dict) else None
