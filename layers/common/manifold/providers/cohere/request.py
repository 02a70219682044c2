"""Translates OpenAI's chat request into Cohere's."""

from collections.abc import Mapping
from typing import Any

import orjson

from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.content_parts import Part, Picture, Text, invalid_value, plain_text, refuse_documents
from manifold.providers.conversation import AssistantTurn, ResultTurn, SystemTurn, Turn, UserTurn
from manifold.providers.normalization import normalized_turns
from manifold.providers.parameters import BUDGETS, Params, merged, present
from manifold.providers.tool_call_ids import ANY
from manifold.providers.tools import Function, Tools, refuse_extras, refuse_one_at_a_time, take_tools

Object = dict[str, Any]

P_BOUNDS = (0.01, 0.99)


def translate_request(model: str, request: ProviderRequest) -> Object:
    """The body of `POST /v2/chat`. System messages stay where they are."""
    conversation, params = normalized_turns(request.body.get("messages"), ANY), Params(request)
    params.refuse_extras([one for turn in conversation for one in (turn, *turn.parts)])
    refuse_documents([part for turn in conversation for part in turn.parts])
    ours: Object = {
        "model": model,
        "messages": [_message(turn) for turn in conversation],
        **present(
            max_tokens=params.token_limit(),
            temperature=params.take("temperature"),
            p=_top_p(params),
            k=params.take("top_k"),
            stop_sequences=params.stop(),
            seed=params.take("seed"),
            frequency_penalty=params.number("frequency_penalty", 0, 1),
            presence_penalty=params.number("presence_penalty", 0, 1),
            logprobs=params.take("logprobs"),
            thinking=_thinking(params),
            response_format=_response_format(params),
        ),
        **_tools(take_tools(params), params),
    }
    return merged(ours, params.rest())


def _top_p(params: Params) -> Any:
    """`top_p` within Cohere's bounds, which are a little narrower than OpenAI's: the nearest value."""
    value = params.take("top_p")
    low, high = P_BOUNDS
    return min(max(value, low), high) if isinstance(value, int | float) else value


def _thinking(params: Params) -> Object | None:
    effort = params.effort()
    if effort is None:
        return None
    if effort == "none":
        return {"type": "disabled"}
    if effort not in BUDGETS:
        params.refuse("reasoning_effort", f"it takes none, {', '.join(BUDGETS)}")
        return None
    return {"type": "enabled", "token_budget": BUDGETS[effort]}


def _response_format(params: Params) -> Object | None:
    response_format = params.take("response_format")
    if response_format is None:
        return None
    if response_format == {"type": "json_object"}:
        return {"type": "json_object"}
    schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        params.refuse("response_format", "it takes text, json_object and json_schema")
        return None
    return {"type": "json_object", "json_schema": schema["schema"]}


def _message(turn: Turn) -> Object:
    match turn:
        case SystemTurn():
            return {"role": "system", "content": plain_text(turn.parts)}
        case UserTurn():
            return {"role": "user", "content": [_part(part) for part in turn.parts]}
        case AssistantTurn():
            return _assistant(turn)
        case ResultTurn():
            return _result(turn)


def _part(part: Part) -> Object:
    if isinstance(part, Picture):
        return {"type": "image_url", "image_url": {"url": part.url}}
    return {"type": "text", "text": plain_text([part])}


def _assistant(turn: AssistantTurn) -> Object:
    """The assistant's message. Its reasoning before calls is Cohere's `tool_plan`."""
    text = plain_text(turn.parts)
    if not turn.calls:
        return {"role": "assistant", "content": text}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()},
        }
        for call in turn.calls
    ]
    return {"role": "assistant", "tool_calls": calls, **present(tool_plan=turn.reasoning, content=text or None)}


def _result(turn: ResultTurn) -> Object:
    for part in turn.parts:
        if not isinstance(part, Text):
            raise invalid_value(part.path, "cannot be an image in a tool's result for this model")
    return {"role": "tool", "tool_call_id": turn.call_id, "content": plain_text(turn.parts)}


def _tools(tools: Tools, params: Params) -> Object:
    """Tools and choice. Cohere cannot name the function to call: it gets only that one, and must call it."""
    if not tools:
        return {}
    refuse_extras(tools, params)
    refuse_one_at_a_time(tools, params)
    tools = tools.narrowed()
    choices: Mapping[str, str] = {"none": "NONE", "required": "REQUIRED"}
    strict = any(function.strict for function in tools.functions)
    return {
        "tools": [*map(_tool, tools.functions), *tools.natives],
        **present(tool_choice=choices.get(tools.mode), strict_tools=strict or None),
    }


def _tool(function: Function) -> Object:
    described = present(description=function.description)
    return {"type": "function", "function": {"name": function.name, **described, "parameters": function.parameters}}
