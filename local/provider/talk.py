"""What the simulated models say: an echo of what they were asked, one token a word."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from local.provider.asks import Assistant, ChatAsk, Message, NamedTool, Part, Stop, TextAsk, Tool, ToolResult

FILTER_MARK = "filter-this"
"""A prompt that holds these words is answered as harmful content is."""
Finish = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Said:
    """One choice: its words, or the tool that it calls with them."""

    text: str
    finish: Finish
    tool: str | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        """The text, cut before each word."""
        return tuple(re.findall(r"\s*\S+|\s+$", self.text))


def chat_said(ask: ChatAsk) -> Said:
    """What the model answers; each of `n` choices says the same."""
    asked = last_words(ask.messages)
    if FILTER_MARK in asked:
        return Said("", "content_filter")
    tool = _called(ask, asked)
    if tool is not None:
        return Said(json.dumps(example(tool.function.parameters or {}, asked)), "tool_calls", tool.function.name)
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


def _called(ask: ChatAsk, asked: str) -> Tool | None:
    """The tool that the answer calls: one that is asked for by `tool_choice`, or by its name in the prompt."""
    tools = ask.tools or []
    if ask.tool_choice == "none" or isinstance(ask.messages[-1], ToolResult | Assistant):
        return None
    if isinstance(ask.tool_choice, NamedTool):
        name = ask.tool_choice.function.name
        return next((tool for tool in tools if tool.function.name == name), None)
    if ask.tool_choice == "required":
        return tools[0]
    return next((tool for tool in tools if tool.function.name in asked), None)


def _content(ask: ChatAsk, asked: str) -> str:
    form = ask.response_format
    if form is not None and form.json_schema is not None:
        return json.dumps(example(form.json_schema.schema_, asked))
    if form is not None and form.type == "json_object":
        return json.dumps({"echo": asked})
    return f"echo: {asked}"
