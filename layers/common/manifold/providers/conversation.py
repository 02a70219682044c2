"""OpenAI's `messages` as typed turns: checked, and with each tool call's arguments parsed.

https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from manifold import lenient_json
from manifold.providers.content_parts import Part, Text, invalid_value, read_parts, read_texts

UNREADABLE_ARGUMENTS = "unreadable_arguments"
"""The member that holds a tool call's arguments as text, where they are no JSON object, as in a call that was cut off
(`finish_reason` is `length`): most providers take only an object."""
NAMELESS = "nameless"
LONGEST_NAME = 200
"""Characters. A model may call a tool that does not exist, with an empty name or one so long that Claude refuses it."""
THINKING_TYPES = frozenset({"thinking", "redacted_thinking"})
"""Types of an answer's parts that are not part of its text."""
MARKS = ("cache_control",)
"""Members of a message that are a provider's own."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class ToolCall(NamedTuple):
    """A tool call that the model made."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: Mapping[str, Any]


class SystemTurn(NamedTuple):
    """A message of `system` or `developer`."""

    parts: tuple[Text, ...]
    path: str
    """Its place in the request: `messages[0]`."""
    extra: Mapping[str, Any] = NOTHING
    """The message's `MARKS`."""


class UserTurn(NamedTuple):
    """A message of the user."""

    parts: tuple[Part, ...]
    path: str
    extra: Mapping[str, Any] = NOTHING


class AssistantTurn(NamedTuple):
    """An answer of the model, as the client sends it back."""

    parts: tuple[Text, ...]
    calls: tuple[ToolCall, ...]
    reasoning: str | None
    """`reasoning_content`, as this gateway's answers have it."""
    thinking: tuple[Mapping[str, Any], ...]
    """`thinking_blocks`, as this gateway's answers have them. They are signed, so they go back unchanged."""
    path: str
    extra: Mapping[str, Any] = NOTHING


class ResultTurn(NamedTuple):
    """The result of a tool call."""

    call_id: str
    parts: tuple[Part, ...]
    path: str
    extra: Mapping[str, Any] = NOTHING


Turn = SystemTurn | UserTurn | AssistantTurn | ResultTurn


def turns(messages: object) -> list[Turn]:
    """The turns. `InvalidRequest` names the message, or the part of it, that has not OpenAI's shape."""
    if not isinstance(messages, list) or not messages:
        raise invalid_value("messages", "must be a list of at least one message")
    return [_turn(message, f"messages[{index}]") for index, message in enumerate(messages)]


def system_texts(conversation: Sequence[Turn]) -> list[Text]:
    """The texts of `system` and `developer`, wherever they are in the conversation."""
    return [part for turn in conversation if isinstance(turn, SystemTurn) for part in turn.parts]


def call_names(conversation: Sequence[Turn]) -> dict[str, str]:
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
        return UserTurn(read_parts(message["content"], content), path, extra)
    if role == "tool":
        return _result(message, path, extra)
    return SystemTurn(read_texts(message["content"], content), path, extra)


def _result(message: Mapping[str, Any], path: str, extra: Mapping[str, Any]) -> ResultTurn:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise invalid_value(f"{path}.tool_call_id", "must name the tool call that this is the result of")
    return ResultTurn(call_id, read_parts(message["content"], f"{path}.content"), path, extra)


def _assistant(message: Mapping[str, Any], path: str, extra: Mapping[str, Any]) -> AssistantTurn:
    """An answer may have neither content nor calls: clients send an empty one back as it was."""
    content, calls = message.get("content"), message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise invalid_value(f"{path}.tool_calls", "must be a list")
    if not content and not calls:
        content = spoken_text(message, "refusal") or spoken_text(message, "audio")
    reasoning, thinking = message.get("reasoning_content"), message.get("thinking_blocks")
    return AssistantTurn(
        parts=read_texts(_without_thoughts(content), f"{path}.content"),
        calls=tuple(_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(calls or ())),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        thinking=tuple(block for block in thinking if isinstance(block, dict)) if isinstance(thinking, list) else (),
        path=path,
        extra=extra,
    )


def spoken_text(message: Mapping[str, Any], name: str) -> str | None:
    """The text of an answer's `refusal` or `audio` (its transcript); `name` says which."""
    value = message.get(name)
    text = value.get("transcript") if name == "audio" and isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _without_thoughts(content: object) -> object:
    """The content without the thinking parts of Mistral's reasoning models."""
    if not isinstance(content, list):
        return content
    return [part for part in content if not (isinstance(part, dict) and part.get("type") in THINKING_TYPES)]


def _call(call: object, path: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid_value(path, "must be a tool call of a function")
    extra = {name: value for name, value in call.items() if name not in ("id", "type", "function", "index")}
    name = function["name"][:LONGEST_NAME] or NAMELESS
    return ToolCall(str(call.get("id")), name, _arguments(function.get("arguments"), path), extra)


def _arguments(arguments: object, path: str) -> dict[str, Any]:
    """The arguments as an object, empty if there are none. Anything else goes into its `UNREADABLE_ARGUMENTS`."""
    if isinstance(arguments, dict):
        return arguments
    try:
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError as error:
        raise invalid_value(f"{path}.function.arguments", "is nested too deep") from error
    try:
        value = lenient_json.request(text) if text.strip() else None
    except orjson.JSONDecodeError:
        value = text
    if value is None:
        return {}
    return value if isinstance(value, dict) else {UNREADABLE_ARGUMENTS: text}
