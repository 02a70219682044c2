"""A vLLM server: https://docs.vllm.ai/en/stable/serving/openai_compatible_server

It has completions and embeddings alone, and no files or batches. A real one serves one model; the account's are served
at one address, as behind vLLM's router. A wrong key is refused before anything else, also on paths that do not exist.
"""

import json
import secrets
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import JSONResponse, Response

from local.provider.completion_objects import Completion, Stamp, texts
from local.provider.echo_model import chat_output, count, last_words, prompt_tokens, text_output
from local.provider.native.common import Caller, identify, paced
from local.provider.native.error_formats import VLLM_INVALID, server_sent_event
from local.provider.native.vllm_objects import (
    TextChoices,
    chat_chunks,
    chat_object,
    embedding_object,
    model_list,
    stop_reason,
    text_chunks,
    text_object,
)
from local.provider.native.vllm_prompts import as_chat, as_embedding, as_text
from local.provider.native.vllm_requests import (
    ChatRequest,
    EmbeddingRequest,
    ResponsesRequest,
    TextRequest,
    invalid,
    parse,
)
from local.provider.native.vllm_responses import last_input, openai_body, response_members
from local.provider.native.vllm_sampling import check_length, check_sampling
from local.provider.refusal import Refusal
from local.provider.responses_api import response_object

METHODS = {
    "chat/completions": "POST",
    "completions": "POST",
    "embeddings": "POST",
    "responses": "POST",
    "models": "GET",
}
EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def authenticate(request: Request, account: str) -> Caller:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    unauthorised = Refusal(401, None, "Unauthorized")
    return identify(request, account, "vllm", key if scheme.lower() == "bearer" else "", unauthorised)


async def read_body(request: Request, caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
    """The caller with the request's body, which is logged."""
    content_type = request.headers.get("content-type", "").lower().partition(";")[0]
    if content_type != "application/json":
        words = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise Refusal(400, VLLM_INVALID, words)
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        problem = {"type": "json_invalid", "loc": "body", "msg": "JSON decode error", "ctx": {"error": str(error)}}
        raise invalid([problem], "body") from error
    if not isinstance(body, dict):
        raise invalid([{"type": "model_attributes_type", "loc": "body", "msg": "Input should be an object"}], "body")
    model, stream = body.get("model"), bool(body.get("stream"))
    request.state.entry.update(model=model, stream=stream, parameters=sorted(body), body=body)
    return Caller(caller.state, caller.account, body)


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
Call = Annotated[Caller, Depends(read_body)]
router = APIRouter(prefix="/v1")


@router.post("/chat/completions")
async def create_chat_completion(http_request: Request, call: Call) -> Response:
    given = parse(ChatRequest, call.body)
    model = _model(call, given.model, "Chat Completions")
    request = as_chat(given, model)
    check_sampling(given)
    prompt = prompt_tokens(request.messages)
    check_length(prompt, given.limit)
    await _begin(http_request, call, [last_words(request.messages)])
    output = chat_output(request)
    answer = Completion(model, prompt, [output] * (given.n or 1), _stamp(call))
    whole = chat_output(request.model_copy(update={"stop": None, "max_completion_tokens": None}))
    stop = stop_reason(output, whole, given.stops)
    if given.stream:
        return paced(call, _events(chat_chunks(request, answer, stop)))
    return JSONResponse(chat_object(request, answer, stop))


@router.post("/completions")
async def create_completion(http_request: Request, call: Call) -> Response:
    given = parse(TextRequest, call.body)
    model = _model(call, given.model, "Completions")
    if given.prompt == []:
        raise Refusal(400, None, "please provide at least one prompt")
    if given.suffix is not None:
        raise Refusal(400, None, "suffix is not currently supported")
    check_sampling(given)
    prompts = texts(given.prompt or "")
    for prompt in prompts:
        check_length(count(prompt), given.limit)
    await _begin(http_request, call, prompts)
    request = as_text(given, model)
    outputs = [text_output(request, prompt) for prompt in prompts for _ in range(given.n)]
    answer = Completion(model, sum(map(count, prompts)), outputs, _stamp(call))
    choices = TextChoices(given, [prompt for prompt in prompts for _ in range(given.n)])
    if given.stream:
        return paced(call, _events(text_chunks(request, answer, choices)))
    return JSONResponse(text_object(request, answer, choices))


@router.post("/embeddings")
async def create_embedding(http_request: Request, call: Call) -> dict[str, Any]:
    given = parse(EmbeddingRequest, call.body)
    model = _model(call, given.model, "Embeddings")
    if given.dimensions is not None:
        words = f'Model "{model}" does not support matryoshka representation, changing output dimensions will lead to'
        raise Refusal(400, None, f"{words} poor results.")
    if given.input == []:
        raise Refusal(400, None, "please provide at least one prompt")
    inputs = texts(given.input)
    for text in inputs:
        check_length(count(text), None)
    await _begin(http_request, call, inputs)
    return embedding_object(as_embedding(given, model), int(call.state.clock.now()))


@router.post("/responses")
async def create_response(http_request: Request, call: Call) -> dict[str, Any]:
    """A whole answer: streams and the background are not simulated."""
    given = parse(ResponsesRequest, call.body)
    model = _model(call, given.model, "Responses")
    if given.stream or given.background:
        raise Refusal(501, None, "The simulated server neither streams responses nor makes them in the background.")
    if given.previous_response_id is not None:
        raise Refusal(404, None, f"Response with id '{given.previous_response_id}' not found.", "response_id")
    made = response_object(openai_body(given, call.body, model), "vllm", _stamp(call))
    await _begin(http_request, call, [last_input(given)])
    return made | response_members(given, made["usage"]["input_tokens"])


@router.get("/models")
def list_models(caller: AuthenticatedCaller) -> dict[str, Any]:
    return model_list(sorted(caller.account.models), int(caller.state.clock.now()))


@router.api_route("/{rest:path}", methods=EVERY_METHOD)
def nothing_here(rest: str, caller: AuthenticatedCaller) -> None:
    """FastAPI's own answers: vLLM has no shape of its own for them."""
    if rest in METHODS:
        raise HTTPException(405, headers={"allow": METHODS[rest]})
    raise HTTPException(404)


def _model(call: Caller, name: str | None, api: str) -> str:
    """The model that is called: without a name, one that has the API."""
    if name is not None and name not in call.account.models:
        raise Refusal(404, None, f"The model `{name}` does not exist.", "model")
    embeds = api == "Embeddings"
    fitting = sorted(model for model in call.account.models if ("embed" in model) == embeds)
    if (name is None and not fitting) or (name is not None and name not in fitting):
        raise Refusal(400, None, f"The model does not support {api} API")
    return name or fitting[0]


async def _begin(http_request: Request, call: Caller, prompts: list[str]) -> None:
    """Log what the model begins to answer, and wait as long as it takes."""
    http_request.state.entry["prompts"] = prompts
    await call.state.clock.sleep(call.state.latency(call.account.name).answer)


def _stamp(call: Caller) -> Stamp:
    return Stamp(secrets.token_hex(16), int(call.state.clock.now()))


def _events(chunks: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for chunk in chunks:
        yield server_sent_event(chunk)
    yield b"data: [DONE]\n\n"
