"""Messages in OpenAI's shape, and what each dialect makes of them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.test_chat_translation import request

FRONT = ("anthropic", "bedrock", "gemini")
"""The providers with a separate system prompt, where user and assistant alternate."""
every_front = pytest.mark.parametrize("provider", FRONT)
TOOL = {"type": "function", "function": {"name": "weather"}}


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: object, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(known: object, arguments: object = "{}", **more: Any) -> dict[str, Any]:
    return {"id": known, "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


def result(known: str, content: object = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": known, "content": content}


def body(provider: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return request(provider, messages=messages, tools=[TOOL], **more)


def turns(provider: str, messages: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The role and the parts of each message; Cohere's texts as parts, too."""
    sent = body(provider, messages)
    return [(one["role"], _parts(one)) for one in sent.get("contents") or sent["messages"]]


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("parts", message.get("content")) or []
    parts = [{"text": content}] if isinstance(content, str) else list(content)
    return [*parts, *message.get("tool_calls", ())]


def texts(value: object) -> Iterator[str]:
    """Every text of the messages."""
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from texts(one)


def answer_text(provider: str, messages: list[dict[str, Any]]) -> list[str]:
    return list(texts([parts for _, parts in turns(provider, messages)]))


def ids(provider: str, messages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The ids of the tool calls, and those of the results."""
    text = json.dumps(body(provider, messages))
    made: list[str] = []
    came: list[str] = []

    def note(value: dict[str, Any]) -> dict[str, Any]:
        if "toolUse" in value or "functionCall" in value:
            use = value.get("toolUse") or value["functionCall"]
            made.append(use.get("toolUseId", use.get("id")))
        elif value.get("type") in ("tool_use", "function") and "id" in value:
            made.append(value["id"])
        for name in ("tool_use_id", "tool_call_id"):
            if name in value:
                came.append(value[name])
        if "toolResult" in value or "functionResponse" in value:
            one = value.get("toolResult") or value["functionResponse"]
            came.append(one.get("toolUseId", one.get("id")))
        return value

    json.loads(text, object_hook=note)
    return made, came
