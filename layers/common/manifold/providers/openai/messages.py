"""OpenAI's `messages` for a server of OpenAI's shape: without what answers have and such servers refuse in requests.

Clients hand an answer's message back as it came, and a fallback hands it to another server than the one that made it.
What a client added of its own passes untouched; what answers alone have goes only to those that are known to take it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from manifold.providers.conversation import THOUGHTS, said_otherwise
from manifold.providers.tool_call_ids import MISTRAL, OPENAI, IdRule, ToolCallIds

Object = dict[str, Any]

REASONERS = frozenset(
    {
        "aliyuncs", "bigmodel", "dashscope", "deepseek", "fireworks", "fireworks_ai", "hosted_vllm", "litellm_proxy",
        "minimax", "minimaxi", "moonshot", "openrouter", "vllm", "volcengine", "volces", "x", "xai", "z", "zai",
    }
)  # fmt: skip
"""Who takes `reasoning_content` back; DeepSeek and Moonshot refuse a tool call without it."""
THINKERS = frozenset(
    {"cerebras", "groq", "hosted_vllm", "litellm_proxy", "ollama", "openrouter", "together", "together_ai", "vllm"}
)
"""Who calls it `reasoning`."""
TAKERS: Mapping[str, frozenset[str]] = {
    "refusal": frozenset({"azure", "litellm_proxy", "openai", "openrouter"}),
    "audio": frozenset({"azure", "litellm_proxy", "openai", "openrouter"}),
    "thinking_blocks": frozenset({"litellm_proxy"}),
    "reasoning_content": REASONERS,
    "reasoning": THINKERS,
    "reasoning_details": frozenset({"minimax", "minimaxi", "openrouter"}),
    "provider_specific_fields": frozenset({"litellm_proxy"}),
    "annotations": frozenset({"openai", "azure", "litellm_proxy", "openrouter"}),
    "extra_content": frozenset({"googleapis", "litellm_proxy"}),
    "cache_control": frozenset({"aliyuncs", "dashscope", "litellm_proxy", "openrouter"}),
}
"""What answers of this gateway and of other servers have beyond OpenAI's request, and which prefixes of a model, or
words of an address, are known to take it back."""
THOUGHT_TAKERS = frozenset({"litellm_proxy", "mistral"})
"""Who takes parts of these types back."""
EMPTY = ("refusal", "audio", "function_call", "tool_calls", "annotations")
"""What an answer says by null or an empty list, and some servers refuse for that."""
ID_RULES: Mapping[str, IdRule] = {"mistral": MISTRAL, "openai": OPENAI, "azure": OPENAI}


class MessageSanitizer:
    """What goes to one server, by the prefix of its model and the address that it has."""

    def __init__(self, provider: str, base_url: str) -> None:
        self._names = frozenset({provider, *_host(base_url).split(".")})
        self._dropped = frozenset(name for name, takers in TAKERS.items() if not takers & self._names)

    def body(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same request as this server takes it. A body of another shape is left for the server to refuse."""
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return body
        said = self._renamed(_without_silence([self._message(message) for message in messages]))
        tools = body.get("tools")
        given = {"tools": [self._kept(tool) for tool in tools]} if isinstance(tools, list) else {}
        return {**body, "messages": said, **given}

    def _message(self, message: Object) -> Object:
        kept: Object = self._kept(message)
        if isinstance(kept.get("content"), list):
            kept = {**kept, "content": [self._part(part) for part in kept["content"]]}
        return self._answer(kept, message) if message.get("role") == "assistant" else kept

    def _answer(self, kept: Object, message: Mapping[str, Any]) -> Object:
        """An assistant's message. To a server that knows no refusals, or no voice, what it said so is its content."""
        otherwise = [said_otherwise(message, name) for name in ("refusal", "audio") if name in self._dropped]
        if not kept.get("content") and any(otherwise):
            kept = {**kept, "content": next(filter(None, otherwise))}
        if isinstance(kept.get("content"), list) and not THOUGHT_TAKERS & self._names:
            kept = {**kept, "content": [part for part in kept["content"] if not _is_thought(part)]}
        kept = {name: value for name, value in kept.items() if value or name not in EMPTY}
        if isinstance(kept.get("tool_calls"), list):
            return {**kept, "tool_calls": [self._kept(call) for call in kept["tool_calls"]]}
        return kept if kept.get("content") is not None or _says_otherwise(kept) else {**kept, "content": ""}

    def _part(self, part: Any) -> Any:
        if "refusal" in self._dropped and isinstance(part, dict) and part.get("type") == "refusal":
            part = {"type": "text", "text": part.get("refusal")}
        return self._kept(part)

    def _kept(self, owner: Any) -> Any:
        """The object without what the server does not take."""
        if not isinstance(owner, dict):
            return owner
        return {name: value for name, value in owner.items() if name not in self._dropped}

    def _renamed(self, messages: Sequence[Object]) -> list[Object]:
        rule = next((ID_RULES[name] for name in ID_RULES if name in self._names), None)
        if rule is None:
            return list(messages)
        ids = ToolCallIds(rule, [known for message in messages for known in _ids(message)])
        return [_with_ids(message, ids) for message in messages]


def _is_thought(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in THOUGHTS


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""


def _says_otherwise(message: Mapping[str, Any]) -> bool:
    """Whether an assistant's message without content needs none."""
    return any(message.get(name) for name in ("tool_calls", "function_call", "audio", "refusal"))


def _without_silence(messages: Sequence[Object]) -> list[Object]:
    """The messages but for the assistant's that say nothing, which many servers refuse; users' around it are joined."""
    kept: list[Object] = []
    joining = False
    for message in messages:
        if len(messages) > 1 and _is_silent(message):
            joining = True
        elif joining and kept and _is_plain(kept[-1]) and _is_plain(message):
            kept[-1] = {**message, "content": _joined(kept[-1]["content"], message["content"])}
            joining = False
        else:
            kept.append(message)
            joining = False
    return kept or list(messages)


def _is_silent(message: Mapping[str, Any]) -> bool:
    """Whether there is nothing but the role of an assistant that said nothing."""
    return message.get("role") == "assistant" and message.keys() <= {"role", "content"} and not any(_words(message))


def _words(message: Mapping[str, Any]) -> Iterable[object]:
    content = message.get("content")
    if not isinstance(content, list):
        return [content]
    return [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in content]


def _is_plain(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return message.get("role") == "user" and message.keys() == {"role", "content"} and isinstance(content, str | list)


def _joined(one: str | list[Any], other: str | list[Any]) -> str | list[Any]:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}" if one and other else one or other
    return [*_parts(one), *_parts(other)]


def _parts(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _ids(message: Mapping[str, Any]) -> list[str]:
    calls = message.get("tool_calls")
    made = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [known for known in (*made, message.get("tool_call_id")) if isinstance(known, str)]


def _with_ids(message: Object, ids: ToolCallIds) -> Object:
    known, calls = message.get("tool_call_id"), message.get("tool_calls")
    if isinstance(known, str):
        return {**message, "tool_call_id": ids.result(known)}
    if not isinstance(calls, list) or len(_ids(message)) < len(calls):
        return message
    given = ids.calls([call["id"] for call in calls])
    return {**message, "tool_calls": [{**call, "id": one} for call, one in zip(calls, given, strict=True)]}
