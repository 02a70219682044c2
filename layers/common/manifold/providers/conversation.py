"""OpenAI's `messages` as turns: checked, typed, with each tool call's arguments read.

https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from manifold.errors import InvalidRequest

DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    path: str
    """Where the request has it: `messages[0].content[1]`."""
    extra: Mapping[str, Any]
    """What the part has beyond OpenAI's members: the provider's own, such as `cache_control`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image by its bytes (`media_type` and `data`, in Base64) or by its address."""

    url: str
    media_type: str | None
    data: str | None
    path: str
    extra: Mapping[str, Any]


Part = Text | Picture


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the model made."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SystemTurn:
    """What `system` or `developer` said."""

    parts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class UserTurn:
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    parts: tuple[Text, ...]
    calls: tuple[Call, ...]
    reasoning: str | None
    """`reasoning_content`, as our own answers have it."""
    thinking: tuple[Mapping[str, Any], ...]
    """`thinking_blocks`, likewise: signed, and so to be given back as they came."""


@dataclass(frozen=True, slots=True)
class ResultTurn:
    """What a tool call came to."""

    call_id: str
    parts: tuple[Part, ...]
    path: str


Turn = SystemTurn | UserTurn | AssistantTurn | ResultTurn


def turns(messages: object) -> list[Turn]:
    """The conversation. `InvalidRequest` names the message, or the part of it, that is not of OpenAI's shape."""
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "must be a list with one message at least")
    return [_turn(message, f"messages[{index}]") for index, message in enumerate(messages)]


def system_texts(conversation: Sequence[Turn]) -> list[Text]:
    """All that `system` and `developer` said, wherever they said it."""
    return [part for turn in conversation if isinstance(turn, SystemTurn) for part in turn.parts]


def named_calls(conversation: Sequence[Turn]) -> dict[str, str]:
    """The function's name of each tool call, by the call's id."""
    return {call.id: call.name for turn in conversation if isinstance(turn, AssistantTurn) for call in turn.calls}


def plain_text(parts: Sequence[Part]) -> str:
    """The parts' text, one after the other."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def without_blanks(parts: Sequence[Part]) -> list[Part]:
    """The parts but for texts that say nothing, which OpenAI's clients send and Claude refuses."""
    return [part for part in parts if not isinstance(part, Text) or part.text.strip()]


def wrong(path: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"'{path}' {why}.", param=path, code="invalid_value")


def _turn(message: object, path: str) -> Turn:
    if not isinstance(message, dict):
        raise wrong(path, "must be an object with a role and a content")
    content = f"{path}.content"
    match message.get("role"):
        case "system" | "developer":
            return SystemTurn(tuple(_texts(message.get("content"), content)))
        case "user":
            return UserTurn(tuple(_parts(message.get("content"), content)))
        case "assistant":
            return _assistant(message, path)
        case "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str):
                raise wrong(f"{path}.tool_call_id", "must name the tool call that this is the result of")
            return ResultTurn(call_id, tuple(_parts(message.get("content"), content)), path)
    raise wrong(f"{path}.role", "must be system, developer, user, assistant or tool")


def _assistant(message: Mapping[str, Any], path: str) -> AssistantTurn:
    content, calls = message.get("content"), message.get("tool_calls") or []
    if content is None and not calls:
        content = message.get("refusal")
        if content is None:
            raise wrong(f"{path}.content", "must be there where there are no tool_calls")
    if not isinstance(calls, list):
        raise wrong(f"{path}.tool_calls", "must be a list")
    reasoning, thinking = message.get("reasoning_content"), message.get("thinking_blocks") or []
    return AssistantTurn(
        parts=() if content is None else tuple(_texts(content, f"{path}.content")),
        calls=tuple(_call(call, f"{path}.tool_calls[{index}]") for index, call in enumerate(calls)),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        thinking=tuple(block for block in thinking if isinstance(block, dict)),
    )


def _call(call: object, path: str) -> Call:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise wrong(path, "must be a tool call of a function")
    extra = {name: value for name, value in call.items() if name not in ("id", "type", "function", "index")}
    return Call(str(call.get("id")), function["name"], _arguments(function, f"{path}.function.arguments"), extra)


def _arguments(function: Mapping[str, Any], path: str) -> dict[str, Any]:
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise wrong(path, "must be a JSON object as text")
    return arguments


def _texts(content: object, path: str) -> Iterator[Text]:
    for part in _parts(content, path):
        if not isinstance(part, Text):
            raise wrong(part.path, "must be text in a message of this role")
        yield part


def _parts(content: object, path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content, path, {})
        return
    if not isinstance(content, list):
        raise wrong(path, "must be text, or a list of parts")
    for index, part in enumerate(content):
        yield _part(part, f"{path}[{index}]")


def _part(part: object, path: str) -> Part:
    if not isinstance(part, dict):
        raise wrong(path, "must be an object with a type")
    kind = part.get("type")
    extra = {name: value for name, value in part.items() if name not in ("type", kind)}
    if kind in ("text", "refusal"):
        if not isinstance(part.get(kind), str):
            raise wrong(f"{path}.{kind}", "must be text")
        return Text(part[kind], path, extra)
    if kind == "image_url":
        return _picture(part.get("image_url"), f"{path}.image_url", extra)
    raise wrong(f"{path}.type", f"cannot be {kind!r} for this model: text and image_url are what it takes")


def _picture(image: object, path: str, extra: Mapping[str, Any]) -> Picture:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise wrong(f"{path}.url", "must be an address or a data URL")
    if not url.startswith("data:"):
        return Picture(url, None, None, path, extra)
    match = DATA_URL.fullmatch(url)
    if match is None or not _is_base64(match["data"]):
        raise wrong(f"{path}.url", "must be an address, or data:image/…;base64,…")
    return Picture(url, match["type"].lower(), match["data"], path, extra)


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False
