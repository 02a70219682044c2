"""OpenAI's `messages` as turns: checked, typed, with each tool call's arguments read.

https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from manifold import lenient
from manifold.providers.content_parts import Part, Text, invalid_value, read_parts, read_texts

UNREADABLE_ARGUMENTS = "unreadable_arguments"
"""The member that holds a tool call's arguments, as they came, where they are no JSON object: most providers take
nothing but an object, and a call that was cut off (`finish_reason` is `length`) has none."""
NAMELESS = "nameless"
LONGEST_NAME = 200
"""A model calls tools that there are not, too: by no name, or by one that Claude would refuse for ever after."""
THOUGHTS = frozenset({"thinking", "redacted_thinking"})
"""Types of an answer's parts that are no words of it."""
MARKS = ("cache_control",)
"""What a message itself may have of a provider's own."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the model made."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SystemTurn:
    """What `system` or `developer` said."""

    parts: tuple[Text, ...]
    path: str
    """Where the request has it: `messages[0]`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the message has of `MARKS`."""


@dataclass(frozen=True, slots=True)
class UserTurn:
    parts: tuple[Part, ...]
    path: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    parts: tuple[Text, ...]
    calls: tuple[ToolCall, ...]
    reasoning: str | None
    """`reasoning_content`, as our own answers have it."""
    thinking: tuple[Mapping[str, Any], ...]
    """`thinking_blocks`, likewise: signed, and so to be given back as they came."""
    path: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultTurn:
    """What a tool call came to."""

    call_id: str
    parts: tuple[Part, ...]
    path: str
    extra: Mapping[str, Any] = field(default_factory=dict)


Turn = SystemTurn | UserTurn | AssistantTurn | ResultTurn


def turns(messages: object) -> list[Turn]:
    """The conversation. `InvalidRequest` names the message, or the part of it, that is not of OpenAI's shape."""
    if not isinstance(messages, list) or not messages:
        raise invalid_value("messages", "must be a list with one message at least")
    return [_turn(message, f"messages[{index}]") for index, message in enumerate(messages)]


def system_texts(conversation: Sequence[Turn]) -> list[Text]:
    """All that `system` and `developer` said, wherever they said it."""
    return [part for turn in conversation if isinstance(turn, SystemTurn) for part in turn.parts]


def named_calls(conversation: Sequence[Turn]) -> dict[str, str]:
    """The function's name of each tool call, by the call's id."""
    return {call.id: call.name for turn in conversation if isinstance(turn, AssistantTurn) for call in turn.calls}


def _turn(message: object, path: str) -> Turn:
    if not isinstance(message, dict):
        raise invalid_value(path, "must be an object with a role and a content")
    role, extra = message.get("role"), {name: message[name] for name in MARKS if message.get(name) is not None}
    if role == "assistant":
        return _assistant(message, path, extra)
    if role not in ("system", "developer", "user", "tool"):
        raise invalid_value(f"{path}.role", "must be system, developer, user, assistant or tool")
    if "content" not in message:
        raise invalid_value(f"{path}.content", "must be text, or a list of parts")
    content = f"{path}.content"
    if role == "user":
        return UserTurn(tuple(read_parts(message["content"], content)), path, extra)
    if role == "tool":
        return _result(message, path, extra)
    return SystemTurn(tuple(read_texts(message["content"], content)), path, extra)


def _result(message: Mapping[str, Any], path: str, extra: Mapping[str, Any]) -> ResultTurn:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise invalid_value(f"{path}.tool_call_id", "must name the tool call that this is the result of")
    return ResultTurn(call_id, tuple(read_parts(message["content"], f"{path}.content")), path, extra)


def _assistant(message: Mapping[str, Any], path: str, extra: Mapping[str, Any]) -> AssistantTurn:
    """An answer may have neither words nor calls: a model that said nothing is handed back as it was."""
    content, calls = message.get("content"), message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise invalid_value(f"{path}.tool_calls", "must be a list")
    if not content and not calls:
        content = said_otherwise(message, "refusal") or said_otherwise(message, "audio")
    reasoning, thinking = message.get("reasoning_content"), message.get("thinking_blocks")
    return AssistantTurn(
        parts=tuple(read_texts(_without_thoughts(content), f"{path}.content")),
        calls=tuple(_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(calls or ())),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        thinking=tuple(block for block in thinking if isinstance(block, dict)) if isinstance(thinking, list) else (),
        path=path,
        extra=extra,
    )


def said_otherwise(message: Mapping[str, Any], name: str) -> str | None:
    """What an answer said by its `refusal` or, in words, by its `audio`."""
    said = message.get(name)
    text = said.get("transcript") if name == "audio" and isinstance(said, dict) else said
    return text if isinstance(text, str) else None


def _without_thoughts(content: object) -> object:
    """The content without the parts that Mistral's reasoning models think in."""
    if not isinstance(content, list):
        return content
    return [part for part in content if not (isinstance(part, dict) and part.get("type") in THOUGHTS)]


def _call(call: object, path: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid_value(path, "must be a tool call of a function")
    extra = {name: value for name, value in call.items() if name not in ("id", "type", "function", "index")}
    name = function["name"][:LONGEST_NAME] or NAMELESS
    return ToolCall(str(call.get("id")), name, _arguments(function.get("arguments")), extra)


def _arguments(given: object) -> dict[str, Any]:
    """The object, empty where none was given; what is none becomes the `UNREADABLE_ARGUMENTS` of one."""
    if isinstance(given, dict):
        return given
    text = given if isinstance(given, str) else orjson.dumps(given).decode()
    try:
        value = lenient.request(text) if text.strip() else None
    except orjson.JSONDecodeError:
        value = text
    if value is None:
        return {}
    return value if isinstance(value, dict) else {UNREADABLE_ARGUMENTS: text}
