"""OpenAI's chat request in Converse's words."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from manifold.providers.anthropic.models import is_claude
from manifold.providers.anthropic.request import parameters_of
from manifold.providers.anthropic.sampling import take_sampling
from manifold.providers.anthropic.schemas import strict_schema, written
from manifold.providers.anthropic.thinking import is_signed, take_thinking, thinks
from manifold.providers.bedrock.documents import Documents, document_block
from manifold.providers.chat import ProviderRequest
from manifold.providers.content_parts import Document, Part, Picture, Text, invalid_value
from manifold.providers.conversation import (
    AssistantTurn,
    ResultTurn,
    ToolCall,
    Turn,
    UserTurn,
    named_calls,
    system_texts,
)
from manifold.providers.normalization import marked, read_history, user_first, without_last_space
from manifold.providers.parameters import Params, merged, present
from manifold.providers.tool_call_ids import BEDROCK
from manifold.providers.tools import Function, Tools, refuse_extras, refuse_one_at_a_time, spent_tools, take_tools

Object = dict[str, Any]

CONVERSE = frozenset(
    {
        "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "inferenceConfig",
        "outputConfig", "performanceConfig", "promptVariables", "requestMetadata", "serviceTier", "system",
        "toolConfig",
    }
)  # fmt: skip
"""The request's own members; what else is no parameter of OpenAI's is one of the model's."""
IMAGE_FORMATS: Mapping[str, str] = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
NO_RESULT: list[Object] = [{"json": {}}]
"""What a tool that gave nothing has given: a result must have content, and a text in it must not be blank."""
MARKS = frozenset({"cache_control"})
"""Anthropic's mark of how far to cache the prompt: what it stands on, a `cachePoint` follows."""
NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
LONGEST_NAME = 64
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html"""
EFFORTS = ("low", "medium", "high")


def translate_request(model: str, request: ProviderRequest) -> Object:
    """The body of `POST /model/{id}/converse`. What `system` and `developer` say moves to the front.

    `model` tells the family, whose words some of it is in.
    """
    conversation, params = marked(read_history(request.body.get("messages"), BEDROCK)), Params(request)
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
    """The model's own fields for `reasoning_effort`, and its limit of tokens."""
    if is_claude(model):
        return take_thinking(params, model, must_call=tools.mode == "required")
    limit, effort = params.take_first("max_completion_tokens", "max_tokens"), params.take("reasoning_effort")
    if effort is None:
        return {}, limit
    if "openai." in model and effort in EFFORTS:
        return {"reasoning_effort": effort}, limit
    params.refuse("reasoning_effort", "on Bedrock, Claude takes one, and OpenAI's models take low, medium and high")
    return {}, limit


def _sampling(params: Params, model: str, models_own: Object) -> Object:
    """`top_k` is none of Converse's words, but Claude's."""
    if is_claude(model):
        return take_sampling(params, model, thinks=thinks(params, models_own))
    return present(temperature=params.number("temperature", 0, 1), top_p=params.take("top_p"))


def _system(texts: Iterable[Text]) -> Object:
    blocks = [block for text in texts for block in _blocks_of(text)]
    return {"system": blocks} if blocks else {}


def _messages(conversation: Sequence[Turn], model: str) -> list[Object]:
    """One message for each run of turns of the same side: the results of parallel calls belong together."""
    said = without_last_space(user_first(conversation))
    thinks, documents = takes_thoughts(model), Documents()
    return [
        {"role": role, "content": documents.told([block for turn in run for block in _blocks(turn, thinks=thinks)])}
        for role, run in groupby(said, lambda turn: "assistant" if isinstance(turn, AssistantTurn) else "user")
    ]


def takes_thoughts(model: str) -> bool:
    """Whether the model made Claude's signed thoughts, or may have: an ARN does not always tell. Others refuse them."""
    return is_claude(model) or model.startswith("arn:")


def _blocks(turn: Turn, *, thinks: bool) -> list[Object]:
    match turn:
        case UserTurn():
            return [block for part in turn.parts for block in _blocks_of(part)]
        case AssistantTurn():
            thoughts = [_thought(block) for block in turn.thinking if thinks and is_signed(block)]
            said = [block for part in turn.parts for block in _blocks_of(part)]
            return [*thoughts, *said, *(block for call in turn.calls for block in _call(call))]
        case ResultTurn():
            content = [_block(part) for part in turn.parts]
            result = {"toolResult": {"toolUseId": turn.call_id, "content": content or NO_RESULT}}
            # A cachePoint cannot be within a result, but after it.
            return [result, *[point for said in (turn, *turn.parts) for point in _cache_points(said.extra)][-1:]]
    return []


def _call(call: ToolCall) -> list[Object]:
    use = {"toolUseId": call.id, "name": _name_of(call.name), "input": call.arguments}
    return [{"toolUse": use}, *_cache_points(call.extra)]


def _name_of(called: str) -> str:
    """The name of a tool that was called, which the model may have made up."""
    return NOT_IN_A_NAME.sub("_", called)[:LONGEST_NAME]


def _blocks_of(part: Part) -> list[Object]:
    return [_block(part), *_cache_points(part.extra)]


def _cache_points(extra: Mapping[str, Any]) -> list[Object]:
    """Bedrock's word for a mark, with its `ttl`, if what has these extras has one."""
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
        raise invalid_value(f"{picture.path}.url", "must be a data URL: Bedrock fetches no addresses")
    known = IMAGE_FORMATS.get(picture.media_type or "")
    if known is None:
        raise invalid_value(f"{picture.path}.url", f"must be one of {', '.join(IMAGE_FORMATS)}")
    return {"format": known, "source": {"bytes": picture.data}}


def _thought(block: Mapping[str, Any]) -> Object:
    """A block of `thinking_blocks`, as our own answers have it."""
    if block.get("type") == "redacted_thinking":
        return {"reasoningContent": {"redactedContent": block.get("data")}}
    text = present(text=block.get("thinking"), signature=block.get("signature"))
    return {"reasoningContent": {"reasoningText": text}}


def _tools(tools: Tools, conversation: Sequence[Turn], params: Params) -> Object:
    refuse_extras(tools, params, MARKS)
    if not tools or tools.mode == "none":  # Converse has no other word for it
        tools = spent_tools(map(_name_of, named_calls(conversation).values()))
    if not tools:
        return {}
    given = [entry for function in tools.functions for entry in _tool(function)]
    config: Object = {"tools": [*given, *tools.natives]}
    if tools.only is not None:
        config["toolChoice"] = {"tool": {"name": tools.only}}
    elif tools.mode == "required":
        config["toolChoice"] = {"any": {}}
    return {"toolConfig": config}


def _one_at_a_time(tools: Tools, params: Params, model: str) -> Object:
    """Claude's own switch for one call at a time; the choice itself stands where Converse has it, if there is one."""
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
    wanted = params.take("response_format")
    if wanted is None:
        return {}
    schema = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        params.refuse("response_format", "it takes json_schema alone")
        return {}
    text = written(strict_schema(schema["schema"], "response_format"), "response_format")
    structure = {"schema": text} | present(name=schema.get("name"), description=schema.get("description"))
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": structure}}}}


def _service_tier(params: Params) -> Object | None:
    tier = params.take("service_tier")
    return None if tier is None else {"type": tier}
