"""Translates OpenAI's chat request into Converse's."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from manifold.providers.anthropic.json_schemas import strict_schema, to_json
from manifold.providers.anthropic.models import is_claude
from manifold.providers.anthropic.request import parameters_of
from manifold.providers.anthropic.sampling import take_sampling
from manifold.providers.anthropic.thinking import is_signed, take_thinking, thinks
from manifold.providers.bedrock.documents import Documents, document_block
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.content_parts import Document, Part, Picture, Text, invalid_value
from manifold.providers.conversation import (
    AssistantTurn,
    ResultTurn,
    ToolCall,
    Turn,
    UserTurn,
    call_names,
    system_texts,
)
from manifold.providers.normalization import normalized_turns, user_first, with_marks_on_parts, without_trailing_space
from manifold.providers.parameters import Params, merged, present
from manifold.providers.tool_call_ids import BEDROCK
from manifold.providers.tools import Function, Tools, refuse_extras, refuse_one_at_a_time, removed_tools, take_tools

Object = dict[str, Any]

CONVERSE = frozenset(
    {
        "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "inferenceConfig",
        "outputConfig", "performanceConfig", "promptVariables", "requestMetadata", "serviceTier", "system",
        "toolConfig",
    }
)  # fmt: skip
"""Converse's own members. Any other member that is not OpenAI's is a parameter of the model."""
IMAGE_FORMATS: Mapping[str, str] = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
NO_RESULT: list[Object] = [{"json": {}}]
"""An empty result: Bedrock demands content, and no blank text in it."""
MARKS = frozenset({"cache_control"})
"""Anthropic's mark for caching the prompt up to a part. It becomes a `cachePoint` after that part."""
NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
LONGEST_NAME = 64
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html"""
EFFORTS = ("low", "medium", "high")


def translate_request(model: str, request: ProviderRequest) -> Object:
    """The body of `POST /model/{id}/converse`. The text of `system` and `developer` moves to the front.

    Some parameters depend on the model's family, which `model` tells.
    """
    conversation, params = with_marks_on_parts(normalized_turns(request.body.get("messages"), BEDROCK)), Params(request)
    params.refuse_extras([part for turn in conversation for part in turn.parts], MARKS)
    tools = take_tools(params)
    models_own, max_tokens = _reasoning(params, model, tools)
    sampling = _sampling(params, model, models_own)
    ours: Object = {
        "messages": _messages(conversation, model),
        "inferenceConfig": present(
            maxTokens=max_tokens,
            temperature=sampling.pop("temperature", None),
            topP=sampling.pop("top_p", None),
            stopSequences=params.stop(blanks=not is_claude(model)),
        ),
        **_system(system_texts(conversation)),
        **_tools(tools, conversation, params),
        **_output_format(params),
        **present(requestMetadata=params.take("metadata"), serviceTier=_service_tier(params)),
    }
    models_own |= sampling | _one_at_a_time(tools, params, model)
    rest = params.rest()
    theirs = {name: value for name, value in rest.items() if name in CONVERSE}
    models_own = merged(models_own, {name: value for name, value in rest.items() if name not in CONVERSE})
    if models_own:
        ours["additionalModelRequestFields"] = models_own
    return merged(ours, theirs)


def _reasoning(params: Params, model: str, tools: Tools) -> tuple[Object, int | None]:
    """The model's own fields for `reasoning_effort`, and `max_tokens`."""
    if is_claude(model):
        return take_thinking(params, model, must_call=tools.mode == "required")
    limit, effort = params.token_limit(), params.effort()
    if effort is None:
        return {}, limit
    if "openai." in model and effort in EFFORTS:
        return {"reasoning_effort": effort}, limit
    params.refuse("reasoning_effort", "on Bedrock, only Claude and OpenAI's models (low, medium, high) accept it")
    return {}, limit


def _sampling(params: Params, model: str, models_own: Object) -> Object:
    """The sampling parameters. Converse has no `top_k`; Claude has."""
    if is_claude(model):
        return take_sampling(params, model, thinks=thinks(params, models_own))
    return present(temperature=params.number("temperature", 0, 1), top_p=params.take("top_p"))


def _system(texts: Iterable[Text]) -> Object:
    blocks = [block for text in texts for block in _blocks_of(text)]
    return {"system": blocks} if blocks else {}


def _messages(conversation: Sequence[Turn], model: str) -> list[Object]:
    """One message for each run of turns of one side: so the results of parallel calls are together."""
    spoken = without_trailing_space(user_first(conversation))
    thinks, documents = takes_thinking(model), Documents()
    return [
        {"role": role, "content": documents.valid([block for turn in run for block in _blocks(turn, thinks=thinks)])}
        for role, run in groupby(spoken, lambda turn: "assistant" if isinstance(turn, AssistantTurn) else "user")
    ]


def takes_thinking(model: str) -> bool:
    """Whether the model is Claude, or an ARN that may be: other models refuse signed thinking blocks."""
    return is_claude(model) or model.startswith("arn:")


def _blocks(turn: Turn, *, thinks: bool) -> list[Object]:
    match turn:
        case UserTurn():
            return [block for part in turn.parts for block in _blocks_of(part)]
        case AssistantTurn():
            thinking = [_thinking_block(block) for block in turn.thinking if thinks and is_signed(block)]
            texts = [block for part in turn.parts for block in _blocks_of(part)]
            return [*thinking, *texts, *(block for call in turn.calls for block in _call(call))]
        case ResultTurn():
            content = [_block(part) for part in turn.parts]
            result = {"toolResult": {"toolUseId": turn.call_id, "content": content or NO_RESULT}}
            # A cachePoint cannot be within a result, but after it.
            return [result, *[point for one in (turn, *turn.parts) for point in _cache_points(one.extra)][-1:]]
    return []


def _call(call: ToolCall) -> list[Object]:
    use = {"toolUseId": call.id, "name": _valid_name(call.name), "input": call.arguments}
    return [{"toolUse": use}, *_cache_points(call.extra)]


def _valid_name(name: str) -> str:
    """The name of a called tool, made valid: the model may have invented it."""
    return NOT_IN_A_NAME.sub("_", name)[:LONGEST_NAME]


def _blocks_of(part: Part) -> list[Object]:
    return [_block(part), *_cache_points(part.extra)]


def _cache_points(extra: Mapping[str, Any]) -> list[Object]:
    """The `cachePoint` for the mark in `extra`, with its `ttl`; nothing if there is no mark."""
    mark = extra.get("cache_control")
    if mark is None:
        return []
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    return [{"cachePoint": {"type": "default", **present(ttl=ttl)}}]


def _block(part: Part) -> Object:
    if isinstance(part, Document):
        return document_block(part)
    return {"image": _image(part)} if isinstance(part, Picture) else {"text": part.text}


def _image(picture: Picture) -> Object:
    if picture.data is None:
        raise invalid_value(f"{picture.path}.url", "must be a data URL: Bedrock fetches no images")
    image_format = IMAGE_FORMATS.get(picture.media_type or "")
    if image_format is None:
        raise invalid_value(f"{picture.path}.url", f"must be one of {', '.join(IMAGE_FORMATS)}")
    return {"format": image_format, "source": {"bytes": picture.data}}


def _thinking_block(block: Mapping[str, Any]) -> Object:
    """A block of `thinking_blocks`, translated."""
    if block.get("type") == "redacted_thinking":
        return {"reasoningContent": {"redactedContent": block.get("data")}}
    text = present(text=block.get("thinking"), signature=block.get("signature"))
    return {"reasoningContent": {"reasoningText": text}}


def _tools(tools: Tools, conversation: Sequence[Turn], params: Params) -> Object:
    refuse_extras(tools, params, MARKS)
    if not tools or tools.mode == "none":  # Converse has no "none"
        tools = removed_tools(map(_valid_name, call_names(conversation).values()))
    if not tools:
        return {}
    entries = [entry for function in tools.functions for entry in _tool(function)]
    config: Object = {"tools": [*entries, *tools.natives]}
    if tools.only is not None:
        config["toolChoice"] = {"tool": {"name": tools.only}}
    elif tools.mode == "required":
        config["toolChoice"] = {"any": {}}
    return {"toolConfig": config}


def _one_at_a_time(tools: Tools, params: Params, model: str) -> Object:
    """Claude's own parameter for one call at a time. A choice of tools stays in Converse's `toolChoice`."""
    if tools.parallel or not is_claude(model):
        refuse_one_at_a_time(tools, params)
        return {}
    chosen = tools.only is not None or tools.mode == "required"
    return {"tool_choice": {**({} if chosen else {"type": "auto"}), "disable_parallel_tool_use": True}}


def _tool(function: Function) -> list[Object]:
    schema = {"json": {"type": "object", **parameters_of(function)}}
    named = {"name": function.name, "inputSchema": schema}
    spec = named | present(description=function.description or None, strict=function.strict or None)
    return [{"toolSpec": spec}, *_cache_points(function.extra)]


def _output_format(params: Params) -> Object:
    response_format = params.take("response_format")
    if response_format is None:
        return {}
    schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        params.refuse("response_format", "it takes only json_schema")
        return {}
    text = to_json(strict_schema(schema["schema"], "response_format"), "response_format")
    structure = {"schema": text} | present(name=schema.get("name"), description=schema.get("description"))
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": structure}}}}


def _service_tier(params: Params) -> Object | None:
    tier = params.take("service_tier")
    return None if tier is None else {"type": tier}
