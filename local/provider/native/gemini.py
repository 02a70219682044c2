"""Google's Gemini API: https://ai.google.dev/api/generate-content"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from local.provider.native.heard import CONTEXT_TOKENS, Heard, caller, mark, paced, read
from local.provider.native.wordings import server_sent
from local.provider.refusal import Refusal
from local.provider.talk import FILTER_MARK, Said, count

FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
# Google answers a wrong key as a wrong request.
UNAUTHORISED = Refusal(400, None, "API key not valid. Please pass a valid API key.")
UNKNOWN_NAME = "Invalid JSON payload received. Unknown name or wrong value at '{path}': {problem}"
MEDIA_TYPES = r"^(image/(png|jpeg|webp|heic|heif)|application/pdf|text/.+|audio/.+|video/.+)$"
SIGNATURE = "c2lnbmVk"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Blob(Strict):
    mime_type: Annotated[str, Field(pattern=MEDIA_TYPES)]
    data: Annotated[str, Field(min_length=1)]


class FileData(Strict):
    file_uri: str
    mime_type: str | None = None


class FunctionCall(Strict):
    name: str
    args: Annotated[dict[str, Any], Field(default_factory=dict)]
    id: str | None = None


class FunctionResponse(Strict):
    name: str
    response: dict[str, Any]
    id: str | None = None


class Part(Strict):
    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    thought: bool | None = None
    thought_signature: str | None = None

    @model_validator(mode="after")
    def has_data(self) -> "Part":
        data = (self.text, self.inline_data, self.file_data, self.function_call, self.function_response)
        if sum(bool(one) for one in data) != 1:
            raise ValueError("required oneof field 'data' must have one initialized field")
        return self


class Content(Strict):
    role: Literal["user", "model"] | None = None
    parts: Annotated[list[Part], Field(min_length=1)]

    def calls(self) -> list[Part]:
        return [part for part in self.parts if part.function_call is not None]

    def responses(self) -> list[Part]:
        return [part for part in self.parts if part.function_response is not None]


class Thinking(Strict):
    thinking_budget: int | None = None
    thinking_level: Literal["minimal", "low", "medium", "high"] | None = None
    include_thoughts: bool | None = None


class GenerationConfig(Strict):
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float | None = None
    top_k: int | None = None
    candidate_count: Annotated[int, Field(ge=1, le=8)] = 1
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    stop_sequences: Annotated[tuple[str, ...], Field(max_length=5)] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool = False
    logprobs: int | None = None
    response_mime_type: Literal["text/plain", "application/json"] = "text/plain"
    response_json_schema: dict[str, Any] | None = None
    thinking_config: Thinking | None = None


class Declaration(Strict):
    name: str
    description: str | None = None
    parameters_json_schema: Annotated[dict[str, Any], Field(default_factory=dict)]


class Tool(Strict):
    function_declarations: tuple[Declaration, ...] = ()
    google_search: dict[str, Any] | None = None


class Calling(Strict):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"] = "AUTO"
    allowed_function_names: tuple[str, ...] = ()


class ToolConfig(Strict):
    function_calling_config: Calling = Calling()


class Ask(Strict):
    contents: Annotated[list[Content], Field(min_length=1)]
    system_instruction: Content | None = None
    generation_config: GenerationConfig = GenerationConfig()
    tools: tuple[Tool, ...] = ()
    tool_config: ToolConfig = ToolConfig()
    safety_settings: tuple[dict[str, str], ...] = ()
    cached_content: str | None = None


router = APIRouter()


@router.post("/v1beta/models/{model}:generateContent")
async def generate(request: Request, account: str, model: str) -> Response:
    who = await caller(request, account, "gemini", request.headers.get("x-goog-api-key", ""), UNAUTHORISED)
    who.check_model(model, _no_model(model))
    ask, heard = _asked(who.body, model)
    return JSONResponse(_answer(ask, heard, model))


@router.post("/v1beta/models/{model}:streamGenerateContent")
async def stream_generate(request: Request, account: str, model: str, alt: str = "json") -> Response:
    who = await caller(request, account, "gemini", request.headers.get("x-goog-api-key", ""), UNAUTHORISED)
    who.check_model(model, _no_model(model))
    if alt != "sse":
        raise Refusal(400, None, "This program streams server-sent events alone: alt=sse")
    ask, heard = _asked(who.body, model)
    return paced(who, _events(ask, heard, model))


def _no_model(model: str) -> Refusal:
    return Refusal(404, None, f"models/{model} is not found for API version v1beta, or is not supported.")


def _asked(body: dict[str, Any], model: str) -> tuple[Ask, Heard]:
    ask = read(Ask, body, UNKNOWN_NAME)
    for index, content in enumerate(ask.contents):
        _check(ask.contents, index, content, model)
    heard = _heard(ask)
    if heard.prompt > CONTEXT_TOKENS:
        words = f"The input token count ({heard.prompt}) exceeds the maximum number of tokens allowed"
        raise Refusal(400, None, f"{words} ({CONTEXT_TOKENS}).")
    return ask, heard


def _check(contents: Sequence[Content], index: int, content: Content, model: str) -> None:
    calls = content.calls()
    before = contents[index - 1].calls() if index else []
    if len(content.responses()) != len(before):
        words = "Please ensure that the number of function response parts is equal to the number of function call parts"
        raise Refusal(400, None, f"{words} of the function call turn.")
    names = sorted(part.function_call.name for part in before if part.function_call is not None)
    if sorted(part.function_response.name for part in content.responses() if part.function_response) != names:
        raise Refusal(400, None, "The names of the function responses are not those of the function calls.")
    if calls and (not index or contents[index - 1].role == "model"):
        words = "function call turn comes immediately after a user turn or after a function response turn"
        raise Refusal(400, None, f"Please ensure that {words}.")
    if calls and calls[0].thought_signature is None and model.startswith("gemini-3"):
        raise Refusal(400, None, "Function call is missing a thought_signature in functionCall parts.")


def _heard(ask: Ask) -> Heard:
    config, calling = ask.generation_config, ask.tool_config.function_calling_config
    functions = [function for tool in ask.tools for function in tool.function_declarations]
    said = [*([ask.system_instruction] if ask.system_instruction else []), *ask.contents]
    schema = config.response_json_schema
    if schema is None and config.response_mime_type == "application/json":
        schema = {"type": "object", "properties": {"echo": {"type": "string"}}}
    return Heard(
        texts=[_words(content.parts) for content in said],
        tools={function.name: function.parameters_json_schema for function in functions},
        must_call=calling.mode == "ANY",
        may_call=calling.mode != "NONE" and not ask.contents[-1].responses(),
        only=next(iter(calling.allowed_function_names), None),
        schema=schema,
        stops=config.stop_sequences,
        limit=config.max_output_tokens,
    )


def _words(parts: Sequence[Part]) -> str:
    """The text; anything else by its kind: `[inlineData]`."""
    return " ".join(_word(part) for part in parts)


def _word(part: Part) -> str:
    if part.function_response is not None:
        return str(part.function_response.response.get("output", json.dumps(part.function_response.response)))
    return part.text if part.text is not None else f"[{next(iter(part.model_fields_set))}]"


def _frame(heard: Heard, model: str, told: int, ask: Ask) -> dict[str, Any]:
    thoughts = {"thoughtsTokenCount": 3} if ask.generation_config.thinking_config else {}
    counts = {"promptTokenCount": heard.prompt, "candidatesTokenCount": told, **thoughts}
    return {
        "usageMetadata": counts | {"totalTokenCount": sum(counts.values())},
        "modelVersion": model,
        "responseId": mark(),
    }


def _blocked(heard: Heard) -> dict[str, Any] | None:
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}} if FILTER_MARK in heard.asked else None


def _answer(ask: Ask, heard: Heard, model: str) -> dict[str, Any]:
    said, blocked = heard.said(), _blocked(heard)
    frame = _frame(heard, model, count(said.text), ask)
    if blocked:
        return blocked | frame
    candidates = [
        {"index": index, "content": {"role": "model", "parts": [_part(said)]}, "finishReason": FINISHES[said.finish]}
        | _logprobs(ask, said.tokens)
        for index in range(ask.generation_config.candidate_count)
    ]
    return {"candidates": candidates} | frame


def _part(said: Said) -> dict[str, Any]:
    if said.tool is None:
        return {"text": said.text}
    return {"functionCall": {"name": said.tool, "args": json.loads(said.text)}, "thoughtSignature": SIGNATURE}


def _logprobs(ask: Ask, tokens: Sequence[str]) -> dict[str, Any]:
    if not ask.generation_config.response_logprobs:
        return {}
    chosen = [{"token": token, "tokenId": 1, "logProbability": -0.1} for token in tokens]
    return {"logprobsResult": {"chosenCandidates": chosen, "topCandidates": [{"candidates": [one]} for one in chosen]}}


def _events(ask: Ask, heard: Heard, model: str) -> Iterator[bytes]:
    """A call comes whole; words come a token at a time, the last one with the reason of the end."""
    said, blocked = heard.said(), _blocked(heard)
    frame = _frame(heard, model, count(said.text), ask)
    if blocked:
        yield server_sent(blocked | frame)
        return
    parts = [{"text": token} for token in said.tokens] if said.tool is None else [_part(said)]
    for index in range(ask.generation_config.candidate_count):
        for number, part in enumerate(parts, start=1):
            candidate: dict[str, Any] = {"index": index, "content": {"role": "model", "parts": [part]}}
            if number == len(parts):
                candidate["finishReason"] = FINISHES[said.finish]
            yield server_sent({"candidates": [candidate]} | frame)
