"""Google's Gemini API: https://ai.google.dev/api/generate-content"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from local.provider.echo_model import FILTER_TRIGGER, ModelOutput, count
from local.provider.native.common import CONTEXT_TOKENS, Conversation, authenticate, new_id, paced, read
from local.provider.native.error_formats import server_sent_event
from local.provider.refusal import Refusal

FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
# Google answers a wrong key as a bad request.
UNAUTHORISED = Refusal(400, None, "API key not valid. Please pass a valid API key.")
UNKNOWN_NAME = "Invalid JSON payload received. Unknown name or wrong value at '{path}': {problem}"
MEDIA_TYPES = r"^(image/(png|jpeg|webp|heic|heif)|application/pdf|text/.+|audio/.+|video/.+)$"
SIGNATURE = "c2lnbmVk"


class Strict(BaseModel):
    """Members have either form of their names, as in Google's JSON: https://protobuf.dev/programming-guides/json"""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


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


class GenerateRequest(Strict):
    contents: Annotated[list[Content], Field(min_length=1)]
    system_instruction: Content | None = None
    generation_config: GenerationConfig = GenerationConfig()
    tools: tuple[Tool, ...] = ()
    tool_config: ToolConfig = ToolConfig()
    safety_settings: tuple[dict[str, str], ...] = ()
    cached_content: str | None = None


router = APIRouter()


@router.post("/v1beta/models/{model}:generateContent")
async def generate(http_request: Request, account: str, model: str) -> Response:
    caller = await authenticate(
        http_request, account, "gemini", http_request.headers.get("x-goog-api-key", ""), UNAUTHORISED
    )
    caller.check_model(model, no_model(model))
    return JSONResponse(answer(caller.body, model))


@router.post("/v1beta/models/{model}:streamGenerateContent")
async def stream_generate(http_request: Request, account: str, model: str, alt: str = "json") -> Response:
    caller = await authenticate(
        http_request, account, "gemini", http_request.headers.get("x-goog-api-key", ""), UNAUTHORISED
    )
    caller.check_model(model, no_model(model))
    if alt != "sse":
        raise Refusal(400, None, "This program streams server-sent events alone: alt=sse")
    request, conversation = _parse(caller.body, model)
    return paced(caller, _events(request, conversation, model))


def answer(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The answer of `generateContent`; raises a `Refusal` for a body that is not taken."""
    request, conversation = _parse(body, model)
    return _answer(request, conversation, model)


def no_model(model: str) -> Refusal:
    return Refusal(404, None, f"models/{model} is not found for API version v1beta, or is not supported.")


def _parse(body: Mapping[str, Any], model: str) -> tuple[GenerateRequest, Conversation]:
    request = read(GenerateRequest, body, UNKNOWN_NAME)
    for index, content in enumerate(request.contents):
        _check(request.contents, index, content, model)
    conversation = _conversation(request)
    if conversation.prompt_tokens > CONTEXT_TOKENS:
        words = f"The input token count ({conversation.prompt_tokens}) exceeds the maximum number of tokens allowed"
        raise Refusal(400, None, f"{words} ({CONTEXT_TOKENS}).")
    return request, conversation


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


def _conversation(request: GenerateRequest) -> Conversation:
    config, calling = request.generation_config, request.tool_config.function_calling_config
    functions = [function for tool in request.tools for function in tool.function_declarations]
    contents = [*([request.system_instruction] if request.system_instruction else []), *request.contents]
    schema = config.response_json_schema
    if schema is None and config.response_mime_type == "application/json":
        schema = {"type": "object", "properties": {"echo": {"type": "string"}}}
    return Conversation(
        texts=[_words(content.parts) for content in contents],
        tools={function.name: function.parameters_json_schema for function in functions},
        must_call=calling.mode == "ANY",
        may_call=calling.mode != "NONE" and not request.contents[-1].responses(),
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


def _frame(conversation: Conversation, model: str, output_tokens: int, request: GenerateRequest) -> dict[str, Any]:
    thoughts = {"thoughtsTokenCount": 3} if request.generation_config.thinking_config else {}
    counts = {"promptTokenCount": conversation.prompt_tokens, "candidatesTokenCount": output_tokens, **thoughts}
    return {
        "usageMetadata": counts | {"totalTokenCount": sum(counts.values())},
        "modelVersion": model,
        "responseId": new_id(),
    }


def _blocked(conversation: Conversation) -> dict[str, Any] | None:
    return (
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}} if FILTER_TRIGGER in conversation.last_text else None
    )


def _answer(request: GenerateRequest, conversation: Conversation, model: str) -> dict[str, Any]:
    output, blocked = conversation.answer(), _blocked(conversation)
    frame = _frame(conversation, model, count(output.text), request)
    if blocked:
        return blocked | frame
    candidates = [
        {
            "index": index,
            "content": {"role": "model", "parts": [_part(output)]},
            "finishReason": FINISHES[output.finish],
        }
        | _logprobs(request, output.tokens)
        for index in range(request.generation_config.candidate_count)
    ]
    return {"candidates": candidates} | frame


def _part(output: ModelOutput) -> dict[str, Any]:
    if output.tool is None:
        return {"text": output.text}
    return {"functionCall": {"name": output.tool, "args": json.loads(output.text)}, "thoughtSignature": SIGNATURE}


def _logprobs(request: GenerateRequest, tokens: Sequence[str]) -> dict[str, Any]:
    if not request.generation_config.response_logprobs:
        return {}
    chosen = [{"token": token, "tokenId": 1, "logProbability": -0.1} for token in tokens]
    return {"logprobsResult": {"chosenCandidates": chosen, "topCandidates": [{"candidates": [one]} for one in chosen]}}


def _events(request: GenerateRequest, conversation: Conversation, model: str) -> Iterator[bytes]:
    """A call comes whole; words come a token at a time, the last one with the reason of the end."""
    output, blocked = conversation.answer(), _blocked(conversation)
    frame = _frame(conversation, model, count(output.text), request)
    if blocked:
        yield server_sent_event(blocked | frame)
        return
    parts = [{"text": token} for token in output.tokens] if output.tool is None else [_part(output)]
    for index in range(request.generation_config.candidate_count):
        for number, part in enumerate(parts, start=1):
            candidate: dict[str, Any] = {"index": index, "content": {"role": "model", "parts": [part]}}
            if number == len(parts):
                candidate["finishReason"] = FINISHES[output.finish]
            yield server_sent_event({"candidates": [candidate]} | frame)
