"""The simulated models: they echo the last message, one token a word, or call a tool that it names."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from local.provider.completion_requests import ChatRequest, Stop, TextRequest
from local.provider.messages import Assistant, FunctionResult, Message, Part, ToolResult
from local.provider.tools import AllowedTools, CustomTool, Function, FunctionTool, NamedCustom, NamedFunction, ToolName

FILTER_TRIGGER = "filter-this"
"""A prompt with these words is answered as harmful content is."""
TOKEN = re.compile(r"\s*\S+|\s+$")
Finish = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
Kind = Literal["function", "custom", "function_call"]
"""What is called: a tool of either type, or a function of the API before tools."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One choice of an answer: a text, or the tool that is called with this text as its arguments."""

    text: str
    finish: Finish
    tool: str | None = None
    kind: Kind = "function"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The text, cut before each word."""
        return tuple(TOKEN.findall(self.text))

    @property
    def token_count(self) -> int:
        """How many `tokens` there are, without the time to cut them."""
        return len(self.text.split()) + self.text[-1:].isspace()


def chat_output(request: ChatRequest) -> ModelOutput:
    """The answer of the model; each of `n` choices is the same."""
    prompt = last_words(request.messages)
    if FILTER_TRIGGER in prompt:
        return ModelOutput("", "content_filter")
    call = _called(request, prompt)
    if call is not None:
        return call
    return cut(_content(request, prompt), request.stop, request.max_completion_tokens or request.max_tokens)


def text_output(request: TextRequest, prompt: str) -> ModelOutput:
    return cut(f"echo: {prompt}", request.stop, request.max_tokens)


def cut(text: str, stop: Stop, limit: int | None) -> ModelOutput:
    """The text up to the first stop sequence, and to at most `limit` tokens."""
    stops = [stop] if isinstance(stop, str) else stop or []
    ends = [text.index(sequence) for sequence in stops if sequence in text]
    output = ModelOutput(text[: min(ends)] if ends else text, "stop")
    if limit is None or output.token_count <= limit:
        return output
    return ModelOutput("".join(output.tokens[:limit]), "length")


def prompt_tokens(messages: Sequence[Message]) -> int:
    return sum(count(words(message.content)) for message in messages)


def last_words(messages: Sequence[Message]) -> str:
    return words(messages[-1].content)


def words(content: str | Sequence[Part] | None) -> str:
    """The text of a message's content; a part that is no text is written as its type: `[image_url]`."""
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part.text if part.text is not None else f"[{part.type}]" for part in content)


def count(text: str) -> int:
    return len(text.split())


def numbers(text: str, dimensions: int) -> list[float]:
    """An embedding: the same for the same text."""
    digest = hashlib.shake_256(text.encode()).digest(dimensions)
    return [byte / 255 for byte in digest]


def example(schema: Mapping[str, Any], text: str) -> Any:
    """The plainest value that fits a JSON schema; its strings are `text`."""
    return _example(schema, text, schema, ())


def _example(schema: Mapping[str, Any], text: str, root: Mapping[str, Any], above: tuple[str, ...]) -> Any:
    """`above` has the references that lead here, so that a schema that contains itself comes to an end."""
    if "$ref" in schema:
        return _example(_resolved(schema["$ref"], root), text, root, (*above, schema["$ref"]))
    variants = [one for name in ("anyOf", "oneOf", "allOf") for one in schema.get(name, ())]
    if variants:
        return _example(next(one for one in variants if one.get("$ref") not in above), text, root, above)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _example(inner, text, root, above) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        items = schema.get("items", {"type": "string"})
        return [] if items.get("$ref") in above else [_example(items, text, root, above)]
    plain: Mapping[str, Any] = {"string": text, "integer": 1, "number": 0.5, "boolean": True}
    return plain.get(kind)


def _resolved(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the schema that a reference names."""
    value: Any = root
    for name in filter(None, ref.removeprefix("#").split("/")):
        value = value[name]
    return dict(value)


def _called(request: ChatRequest, prompt: str) -> ModelOutput | None:
    """The call that is the answer, if one is."""
    if isinstance(request.messages[-1], ToolResult | FunctionResult | Assistant):
        return None
    tool = _tool(request, prompt)
    if isinstance(tool, CustomTool):
        return ModelOutput(prompt, "tool_calls", tool.name, "custom")
    if tool is not None:
        return ModelOutput(_arguments(tool.function, prompt), "tool_calls", tool.name)
    function = _function(request, prompt)
    return (
        ModelOutput(_arguments(function, prompt), "function_call", function.name, "function_call") if function else None
    )


def _arguments(function: Function, prompt: str) -> str:
    return json.dumps(example(function.parameters or {}, prompt))


def _tool(request: ChatRequest, prompt: str) -> FunctionTool | CustomTool | None:
    """The tool that the answer calls: that of `tool_choice`, or one whose name is in the prompt."""
    choice, tools = request.tool_choice, request.tools or []
    if choice == "none":
        return None
    if isinstance(choice, NamedFunction | NamedCustom):
        return next((tool for tool in tools if tool.name == choice.name), None)
    if isinstance(choice, AllowedTools):
        names = [tool.name for tool in choice.allowed_tools.tools]
        tools, choice = [tool for tool in tools if tool.name in names], choice.allowed_tools.mode
    if choice == "required":
        return tools[0]
    return next((tool for tool in tools if tool.name in prompt), None)


def _function(request: ChatRequest, prompt: str) -> Function | None:
    """The function that the answer calls, where the request has no tools."""
    if request.function_call == "none":
        return None
    if isinstance(request.function_call, ToolName):
        named = request.function_call.name
        return next((function for function in request.functions or () if function.name == named), None)
    return next((function for function in request.functions or () if function.name in prompt), None)


def _content(request: ChatRequest, prompt: str) -> str:
    form = request.response_format
    if form is not None and form.json_schema is not None:
        return json.dumps(example(form.json_schema.schema_, prompt))
    if form is not None and form.type == "json_object":
        return json.dumps({"echo": prompt})
    return f"echo: {prompt}"
