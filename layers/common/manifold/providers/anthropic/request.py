"""Translates OpenAI's chat request into Anthropic's."""

import base64
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from manifold.providers.anthropic.json_schemas import dereferenced, strict_schema
from manifold.providers.anthropic.sampling import take_sampling
from manifold.providers.anthropic.thinking import is_signed, max_tokens, take_thinking, thinks
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.content_parts import PDF, Document, Part, Picture, invalid_value
from manifold.providers.conversation import AssistantTurn, ResultTurn, ToolCall, Turn, UserTurn, system_texts
from manifold.providers.normalization import normalized_turns, user_first, with_marks_on_parts, without_trailing_space
from manifold.providers.parameters import Params, merged, present
from manifold.providers.tool_call_ids import ANTHROPIC
from manifold.providers.tools import Function, Tools, take_tools

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
PERSONAL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|^\s*\+\d[\d\s().-]{5,}$")
"""Matches e-mail addresses, and telephone numbers with a country code."""
CHOICES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}


def translate_request(model: str, request: ProviderRequest, base_model: str | None = None) -> dict[str, Any]:
    """The body of `POST /v1/messages`. The text of `system` and `developer` moves to the front."""
    family = base_model or model
    conversation, params = (
        with_marks_on_parts(normalized_turns(request.body.get("messages"), ANTHROPIC)),
        Params(request),
    )
    tools = take_tools(params)
    thinking, limit = take_thinking(params, family, must_call=tools.mode == "required")
    ours = {
        "model": model,
        "messages": _messages(conversation),
        "max_tokens": max_tokens(family) if limit is None else limit,
        **present(
            system=[_block(text) for text in system_texts(conversation)] or None,
            stop_sequences=params.stop(blanks=False),
            service_tier=_service_tier(params),
            metadata=_metadata(params),
        ),
        **take_sampling(params, family, thinks=thinks(params, thinking)),
        **thinking,
    }
    ours = merged(ours, _output_format(params))
    return merged(ours | _tools(tools), params.rest())


def _messages(conversation: Sequence[Turn]) -> list[dict[str, Any]]:
    """One message for each run of turns of one side: so the results of parallel calls are together."""
    spoken = without_trailing_space(user_first(conversation))
    return [
        {"role": role, "content": [block for turn in run for block in _blocks(turn)]}
        for role, run in groupby(spoken, _role)
    ]


def _role(turn: Turn) -> str:
    return "assistant" if isinstance(turn, AssistantTurn) else "user"


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    match turn:
        case UserTurn():
            return [_block(part) for part in turn.parts]
        case AssistantTurn():
            thinking = [dict(block) for block in turn.thinking if is_signed(block)]
            return [*thinking, *map(_block, turn.parts), *map(_call, turn.calls)]
        case ResultTurn():
            content = [_block(part) for part in turn.parts]
            return [{"type": "tool_result", "tool_use_id": turn.call_id, "content": content, **turn.extra}]
    return []


def _call(call: ToolCall) -> dict[str, Any]:
    mark = present(cache_control=call.extra.get("cache_control"))
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments, **mark}


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Picture):
        return {"type": "image", "source": _source(part), **part.extra}
    if isinstance(part, Document):
        return {"type": "document", "source": _document(part), **present(title=part.name), **part.extra}
    return {"type": "text", "text": part.text, **part.extra}


def _source(picture: Picture) -> dict[str, Any]:
    if picture.data is None:
        return {"type": "url", "url": picture.url}
    if picture.media_type not in IMAGE_TYPES:
        raise invalid_value(f"{picture.path}.url", f"must be one of {', '.join(sorted(IMAGE_TYPES))}")
    return {"type": "base64", "media_type": picture.media_type, "data": picture.data}


def _document(document: Document) -> dict[str, Any]:
    """A PDF in Base64, a text as characters. https://platform.claude.com/docs/en/build-with-claude/pdf-support"""
    if document.media_type == PDF:
        return {"type": "base64", "media_type": PDF, "data": document.data}
    if document.media_type == "text/plain":
        text = base64.b64decode(document.data).decode(errors="replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise invalid_value(f"{document.path}.file_data", f"must be {PDF} or text/plain")


def _tools(tools: Tools) -> dict[str, Any]:
    if not tools:
        return {}
    choice: dict[str, Any] = {"type": "tool", "name": tools.only} if tools.only else {"type": CHOICES[tools.mode]}
    if not tools.parallel:
        choice["disable_parallel_tool_use"] = True
    return {"tools": [*map(_tool, tools.functions), *tools.natives], "tool_choice": choice}


def _tool(function: Function) -> dict[str, Any]:
    return {
        "name": function.name,
        **present(description=function.description, strict=function.strict or None),
        "input_schema": {"type": "object", **parameters_of(function)},
        **function.extra,
    }


def parameters_of(function: Function) -> Mapping[str, Any]:
    """The schema of a function's arguments; of a strict one, as Claude's structured outputs accept it."""
    if not function.strict:
        return function.parameters
    schema = {"type": "object", **dereferenced(function.parameters)}
    return strict_schema(schema, f"{function.path}.function.parameters")


def _output_format(params: Params) -> dict[str, Any]:
    response_format = params.take("response_format")
    if response_format is None:
        return {}
    schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        params.refuse("response_format", "it takes only json_schema")
        return {}
    return {
        "output_config": {
            "format": {"type": "json_schema", "schema": strict_schema(schema["schema"], "response_format")}
        }
    }


def _metadata(params: Params) -> dict[str, Any] | None:
    """The user's id. Anthropic accepts no e-mail address or telephone number: the error names the parameter."""
    name = "safety_identifier" if "safety_identifier" in params else "user"
    user = params.take_first("safety_identifier", "user")
    if isinstance(user, str) and PERSONAL.search(user):
        params.refuse(name, "it must be an id without personal data, neither an e-mail address nor a telephone number")
        return None
    return None if user is None else {"user_id": user}


def _service_tier(params: Params) -> str | None:
    """OpenAI's `default` is Anthropic's `standard_only`. Both have `auto`, the default."""
    tier = params.take("service_tier")
    if tier in ("default", "standard_only"):
        return "standard_only"
    if tier is not None:
        params.refuse("service_tier", "it takes auto and default")
    return None
