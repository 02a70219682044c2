"""Translates OpenAI's chat request into Gemini's."""

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import orjson

from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.content_parts import Part, Text, invalid_value, plain_text
from manifold.providers.conversation import (
    AssistantTurn,
    ResultTurn,
    ToolCall,
    Turn,
    UserTurn,
    call_names,
    system_texts,
)
from manifold.providers.gemini.thinking import take_thinking
from manifold.providers.normalization import normalized_turns, user_first
from manifold.providers.parameters import Params, merged, present
from manifold.providers.tool_call_ids import ANY
from manifold.providers.tools import Function, Tools, refuse_extras, refuse_one_at_a_time, take_tools

Object = dict[str, Any]

FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""Google's value for calls that Gemini did not make: https://ai.google.dev/gemini-api/docs/thought-signatures"""
MODES: Mapping[str, str] = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def translate_request(model: str, request: ProviderRequest) -> Object:
    """The body of `:generateContent`. The text of `system` and `developer` moves to the front."""
    conversation, params = normalized_turns(request.body.get("messages"), ANY), Params(request)
    system = system_texts(conversation)
    params.refuse_extras([one for turn in conversation for one in (turn, *turn.parts)])
    ours: Object = {
        "contents": _contents(conversation),
        "generationConfig": _config(params, model),
        **_tools(take_tools(params), params),
    }
    if system:
        ours["systemInstruction"] = {"parts": [{"text": text.text} for text in system]}
    return merged(ours, params.rest())


def _config(params: Params, model: str) -> Object:
    logprobs, top = params.take("logprobs"), params.take("top_logprobs")
    return present(
        temperature=params.take("temperature"),
        topP=params.take("top_p"),
        topK=params.take("top_k"),
        maxOutputTokens=params.token_limit(),
        stopSequences=params.stop(),
        candidateCount=params.take("n"),
        seed=params.take("seed"),
        presencePenalty=params.take("presence_penalty"),
        frequencyPenalty=params.take("frequency_penalty"),
        responseLogprobs=logprobs,
        logprobs=top if logprobs else None,
        thinkingConfig=take_thinking(params, model),
        **_response_format(params),
    )


def _response_format(params: Params) -> Object:
    response_format = params.take("response_format")
    if response_format is None:
        return {}
    if response_format == {"type": "json_object"}:
        return {"responseMimeType": "application/json"}
    schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        params.refuse("response_format", "it takes text, json_object and json_schema")
        return {}
    return {"responseMimeType": "application/json", "responseJsonSchema": schema["schema"]}


def _contents(conversation: Sequence[Turn]) -> list[Object]:
    """One content for each run of turns of one side: so the results of parallel calls are together."""
    names = call_names(conversation)
    return [
        {"role": role, "parts": [part for turn in run for part in _parts(turn, names)]}
        for role, run in groupby(user_first(conversation), _role)
    ]


def _role(turn: Turn) -> str:
    return "model" if isinstance(turn, AssistantTurn) else "user"


def _parts(turn: Turn, names: Mapping[str, str]) -> list[Object]:
    match turn:
        case UserTurn():
            return [_part(part) for part in turn.parts]
        case AssistantTurn():
            return [*map(_part, turn.parts), *_calls(turn)]
        case ResultTurn():
            return [_result(turn, names)]
    return []


def _part(part: Part) -> Object:
    if isinstance(part, Text):
        return {"text": part.text}
    if part.data is not None:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    media_type, _ = mimetypes.guess_type(part.url.partition("?")[0])
    return {"fileData": present(mimeType=media_type, fileUri=part.url)}


def _calls(turn: AssistantTurn) -> Iterable[Object]:
    """The calls. Gemini 3 refuses a turn whose first call has no signature; it signs only the first."""
    for number, call in enumerate(turn.calls):
        signature = _signature(call) or (None if number else FOREIGN_SIGNATURE)
        function = {"id": call.id, "name": call.name, "args": call.arguments}
        yield {"functionCall": function, **present(thoughtSignature=signature)}


def _signature(call: ToolCall) -> str | None:
    content = call.extra.get("extra_content")
    google = content.get("google") if isinstance(content, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else None


def _result(turn: ResultTurn, names: Mapping[str, str]) -> Object:
    name = names.get(turn.call_id)
    if name is None:
        raise invalid_value(f"{turn.path}.tool_call_id", "must name a tool call of an earlier message")
    for part in turn.parts:
        if not isinstance(part, Text):
            raise invalid_value(part.path, "cannot be an image or a file in a tool's result for this model")
    return {"functionResponse": {"id": turn.call_id, "name": name, "response": _response(plain_text(turn.parts))}}


def _response(text: str) -> Object:
    """The result as an object, which Gemini demands: any other text becomes its `output`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"output": text}


def _tools(tools: Tools, params: Params) -> Object:
    if not tools:
        return {}
    refuse_extras(tools, params)
    refuse_one_at_a_time(tools, params)
    declared = [{"functionDeclarations": [_declaration(function) for function in tools.functions]}]
    config: Object = {"mode": _mode(tools)}
    if tools.only is not None:
        config["allowedFunctionNames"] = [tools.only]
    entries = [*(declared if tools.functions else []), *tools.natives]
    choice = {"toolConfig": {"functionCallingConfig": config}} if tools.functions else {}
    return {"tools": entries, **choice}


def _mode(tools: Tools) -> str:
    """Gemini's mode. `strict` is VALIDATED, in which calls fit the schema, as they do in ANY."""
    if tools.mode == "auto" and any(function.strict for function in tools.functions):
        return "VALIDATED"
    return MODES[tools.mode]


def _declaration(function: Function) -> Object:
    return {
        "name": function.name,
        **present(description=function.description),
        "parametersJsonSchema": function.parameters,
    }
