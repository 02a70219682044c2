"""OpenAI's `messages` for a server of OpenAI's API, without members of answers that the server refuses in a request.

Clients send an answer's message back as they received it, and after a fallback to another server than the one that
made it. A member that only answers have is sent only to servers that are known to accept it. All other members, which
the client added, are sent unchanged.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from manifold.providers.conversation import THINKING_TYPES, spoken_text
from manifold.providers.tool_call_ids import MISTRAL, OPENAI, IdRule, ToolCallIds

Object = dict[str, Any]

REASONING_CONTENT_SERVERS = frozenset(
    {
        "aliyuncs", "bigmodel", "dashscope", "deepseek", "fireworks", "fireworks_ai", "hosted_vllm", "litellm_proxy",
        "minimax", "minimaxi", "moonshot", "openrouter", "vllm", "volcengine", "volces", "x", "xai", "z", "zai",
    }
)  # fmt: skip
"""Servers that accept `reasoning_content`. DeepSeek and Moonshot refuse a tool call without it."""
REASONING_SERVERS = frozenset(
    {"cerebras", "groq", "hosted_vllm", "litellm_proxy", "ollama", "openrouter", "together", "together_ai", "vllm"}
)
"""Servers that call it `reasoning`."""
SERVERS_BY_MEMBER: Mapping[str, frozenset[str]] = {
    "refusal": frozenset({"azure", "litellm_proxy", "openai", "openrouter"}),
    "audio": frozenset({"azure", "litellm_proxy", "openai", "openrouter"}),
    "thinking_blocks": frozenset({"litellm_proxy"}),
    "reasoning_content": REASONING_CONTENT_SERVERS,
    "reasoning": REASONING_SERVERS,
    "reasoning_details": frozenset({"minimax", "minimaxi", "openrouter"}),
    "provider_specific_fields": frozenset({"litellm_proxy"}),
    "annotations": frozenset({"openai", "azure", "litellm_proxy", "openrouter"}),
    "extra_content": frozenset({"googleapis", "litellm_proxy"}),
    "cache_control": frozenset({"aliyuncs", "dashscope", "litellm_proxy", "openrouter"}),
}
"""Members of messages that answers have and OpenAI's requests have not, each with the servers that are known to accept
it: prefixes of a model, or words of a host name."""
THINKING_PART_SERVERS = frozenset({"litellm_proxy", "mistral"})
"""Servers that accept content parts of `THINKING_TYPES`."""
OMITTED_IF_EMPTY = ("refusal", "audio", "function_call", "tool_calls", "annotations")
"""Members that are null or an empty list in answers. Some servers refuse them so."""
ID_RULES: Mapping[str, IdRule] = {"mistral": MISTRAL, "openai": OPENAI, "azure": OPENAI}


class MessageSanitizer:
    """Adapts messages to one server, which is known by its model's prefix and its base URL."""

    def __init__(self, provider: str, base_url: str) -> None:
        self._names = frozenset({provider, *_host(base_url).split(".")})
        self._dropped = frozenset(name for name, servers in SERVERS_BY_MEMBER.items() if not servers & self._names)
        self._id_rule = next((ID_RULES[name] for name in ID_RULES if name in self._names), None)

    def body(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same request, as this server accepts it. Messages of another shape are left for the server to refuse."""
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return body
        accepted = self._with_fitting_ids(_without_empty([self._message(message) for message in messages]))
        tools = body.get("tools")
        kept_tools = {"tools": [self._kept(tool) for tool in tools]} if isinstance(tools, list) else {}
        return {**body, "messages": accepted, **kept_tools}

    def _message(self, message: Object) -> Object:
        kept: Object = self._kept(message)
        if isinstance(kept.get("content"), list):
            kept = {**kept, "content": [self._part(part) for part in kept["content"]]}
        return self._answer(kept, message) if message.get("role") == "assistant" else kept

    def _answer(self, kept: Object, message: Mapping[str, Any]) -> Object:
        """An assistant's message. If the server accepts no refusal or no audio, their text becomes the content."""
        texts = [spoken_text(message, name) for name in ("refusal", "audio") if name in self._dropped]
        if not kept.get("content") and any(texts):
            kept = {**kept, "content": next(filter(None, texts))}
        if isinstance(kept.get("content"), list) and not THINKING_PART_SERVERS & self._names:
            kept = {**kept, "content": [part for part in kept["content"] if not _is_thinking(part)]}
        kept = {name: value for name, value in kept.items() if value or name not in OMITTED_IF_EMPTY}
        if isinstance(kept.get("tool_calls"), list):
            return {**kept, "tool_calls": [self._kept(call) for call in kept["tool_calls"]]}
        return kept if kept.get("content") is not None or _needs_no_content(kept) else {**kept, "content": ""}

    def _part(self, part: Any) -> Any:
        if "refusal" in self._dropped and isinstance(part, dict) and part.get("type") == "refusal":
            part = {"type": "text", "text": part.get("refusal")}
        return self._kept(part)

    def _kept(self, owner: Any) -> Any:
        """The object without the members that the server does not accept."""
        if not isinstance(owner, dict):
            return owner
        return {name: value for name, value in owner.items() if name not in self._dropped}

    def _with_fitting_ids(self, messages: Sequence[Object]) -> list[Object]:
        present = [call_id for message in messages for call_id in _ids(message)]
        if self._id_rule is None or not present:
            return list(messages)
        ids = ToolCallIds(self._id_rule, present)
        return [_with_ids(message, ids) for message in messages]


@lru_cache(256)
def sanitizer_for(provider: str, base_url: str) -> MessageSanitizer:
    """The sanitizer for a server."""
    return MessageSanitizer(provider, base_url)


def _is_thinking(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in THINKING_TYPES


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""


def _needs_no_content(message: Mapping[str, Any]) -> bool:
    """Whether an assistant's message is valid without content."""
    return any(message.get(name) for name in ("tool_calls", "function_call", "audio", "refusal"))


def _without_empty(messages: Sequence[Object]) -> list[Object]:
    """The messages without empty ones of the assistant, which many servers refuse. The user's around one are joined."""
    kept: list[Object] = []
    joining = False
    for message in messages:
        if len(messages) > 1 and _is_empty(message):
            joining = True
        elif joining and kept and _is_plain(kept[-1]) and _is_plain(message):
            kept[-1] = {**message, "content": _joined(kept[-1]["content"], message["content"])}
            joining = False
        else:
            kept.append(message)
            joining = False
    return kept or list(messages)


def _is_empty(message: Mapping[str, Any]) -> bool:
    """Whether it is the assistant's, and has neither content nor any other member."""
    return message.get("role") == "assistant" and message.keys() <= {"role", "content"} and not any(_texts(message))


def _texts(message: Mapping[str, Any]) -> Iterable[object]:
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
    call_ids = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [call_id for call_id in (*call_ids, message.get("tool_call_id")) if isinstance(call_id, str)]


def _with_ids(message: Object, ids: ToolCallIds) -> Object:
    call_id, calls = message.get("tool_call_id"), message.get("tool_calls")
    if isinstance(call_id, str):
        return {**message, "tool_call_id": ids.result(call_id)}
    if not isinstance(calls, list) or len(_ids(message)) < len(calls):
        return message
    new_ids = ids.calls([call["id"] for call in calls])
    return {**message, "tool_calls": [{**call, "id": new_id} for call, new_id in zip(calls, new_ids, strict=True)]}
