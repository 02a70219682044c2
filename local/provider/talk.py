"""What the simulated models say: an echo of what they were asked, one token a word."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from local.provider.asks import ChatAsk, Stop, TextAsk
from local.provider.messages import Assistant, FunctionResult, Message, Part, ToolResult
from local.provider.tools import AllowedTools, CustomTool, Function, FunctionTool, NamedCustom, NamedFunction, ToolName

FILTER_MARK = "filter-this"
"""A prompt that holds these words is answered as harmful content is."""
Finish = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
Kind = Literal["function", "custom", "function_call"]
"""What is called: a tool of either type, or a function as there were before tools."""


@dataclass(frozen=True, slots=True)
class Said:
    """One choice: its words, or the tool that it calls with them."""

    text: str
    finish: Finish
    tool: str | None = None
    kind: Kind = "function"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The text, cut before each word."""
        return tuple(re.findall(r"\s*\S+|\s+$", self.text))


def chat_said(ask: ChatAsk) -> Said:
    """What the model answers; each of `n` choices says the same."""
    asked = last_words(ask.messages)
    if FILTER_MARK in asked:
        return Said("", "content_filter")
    call = _called(ask, asked)
    if call is not None:
        return call
    return cut(_content(ask, asked), ask.stop, ask.max_completion_tokens or ask.max_tokens)


def text_said(ask: TextAsk, prompt: str) -> Said:
    return cut(f"echo: {prompt}", ask.stop, ask.max_tokens)


def cut(text: str, stop: Stop, limit: int | None) -> Said:
    """The text up to the first stop sequence, and to no more tokens than asked for."""
    stops = [stop] if isinstance(stop, str) else stop or []
    ends = [text.index(mark) for mark in stops if mark in text]
    said = Said(text[: min(ends)] if ends else text, "stop")
    if limit is None or len(said.tokens) <= limit:
        return said
    return Said("".join(said.tokens[:limit]), "length")


def prompt_tokens(messages: Sequence[Message]) -> int:
    return sum(count(words(message.content)) for message in messages)


def last_words(messages: Sequence[Message]) -> str:
    return words(messages[-1].content)


def words(content: str | Sequence[Part] | None) -> str:
    """A message's content, as far as it is text; anything else by its type: `[image_url]`."""
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
    """`above` are the references that lead here: a schema that contains itself ends where it may."""
    if "$ref" in schema:
        return _example(_meant(schema["$ref"], root), text, root, (*above, schema["$ref"]))
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


def _meant(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference within the schema stands for."""
    found: Any = root
    for name in filter(None, ref.removeprefix("#").split("/")):
        found = found[name]
    return dict(found)


def _called(ask: ChatAsk, asked: str) -> Said | None:
    """The call that is the answer, if one is."""
    if isinstance(ask.messages[-1], ToolResult | FunctionResult | Assistant):
        return None
    tool = _tool(ask, asked)
    if isinstance(tool, CustomTool):
        return Said(asked, "tool_calls", tool.name, "custom")
    if tool is not None:
        return Said(_arguments(tool.function, asked), "tool_calls", tool.name)
    function = _function(ask, asked)
    return Said(_arguments(function, asked), "function_call", function.name, "function_call") if function else None


def _arguments(function: Function, asked: str) -> str:
    return json.dumps(example(function.parameters or {}, asked))


def _tool(ask: ChatAsk, asked: str) -> FunctionTool | CustomTool | None:
    """The tool that the answer calls: one that is asked for by `tool_choice`, or by its name in the prompt."""
    choice, tools = ask.tool_choice, ask.tools or []
    if choice == "none":
        return None
    if isinstance(choice, NamedFunction | NamedCustom):
        return next((tool for tool in tools if tool.name == choice.name), None)
    if isinstance(choice, AllowedTools):
        names = [tool.name for tool in choice.allowed_tools.tools]
        tools, choice = [tool for tool in tools if tool.name in names], choice.allowed_tools.mode
    if choice == "required":
        return tools[0]
    return next((tool for tool in tools if tool.name in asked), None)


def _function(ask: ChatAsk, asked: str) -> Function | None:
    """The function that the answer calls, where the request has no tools."""
    if ask.function_call == "none":
        return None
    if isinstance(ask.function_call, ToolName):
        named = ask.function_call.name
        return next((function for function in ask.functions or () if function.name == named), None)
    return next((function for function in ask.functions or () if function.name in asked), None)


def _content(ask: ChatAsk, asked: str) -> str:
    form = ask.response_format
    if form is not None and form.json_schema is not None:
        return json.dumps(example(form.json_schema.schema_, asked))
    if form is not None and form.type == "json_object":
        return json.dumps({"echo": asked})
    return f"echo: {asked}"
