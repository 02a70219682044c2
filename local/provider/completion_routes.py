"""The routes of completions and embeddings in the dialects of OpenAI and Azure."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.responses import JSONResponse, Response

from local.provider.callers import AuthenticatedCaller, Caller
from local.provider.completion_objects import (
    Stamp,
    chat_chunks,
    chat_completion,
    chat_object,
    embedding_object,
    text_chunks,
    text_completion,
    text_object,
    texts,
)
from local.provider.completion_requests import EmbeddingRequest, parse, parse_chat, parse_text
from local.provider.echo_model import last_words
from local.provider.native import mistral_messages
from local.provider.refusal import Refusal


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A request's body, after its model was checked."""

    caller: Caller
    body: dict[str, Any]


async def model_call(request: Request, caller: AuthenticatedCaller) -> ModelCall:
    """The body of a request to one of the account's models. The path names it in Azure's dated form, else the body."""
    body = await _json(request)
    deployment = request.path_params.get("deployment")
    if (deployment is not None) != (caller.version is not None):
        raise Refusal(404, "404", "Resource not found")
    model = deployment or body.get("model")
    caller.entry.update(model=model, stream=bool(body.get("stream")), parameters=sorted(body), body=body)
    if model is None:
        raise Refusal(400, "missing_required_parameter", "you must provide a model parameter", "model")
    if model not in caller.account.models:
        raise _no_model(caller, str(model))
    await caller.state.clock.sleep(caller.state.latency(caller.account.name).answer)
    return ModelCall(caller, body | {"model": model})


CheckedCall = Annotated[ModelCall, Depends(model_call)]
router = APIRouter()


@router.post("/chat/completions")
@router.post("/deployments/{deployment}/chat/completions")
async def create_chat_completion(call: CheckedCall) -> Response:
    if call.caller.account.dialect == "mistral":
        mistral_messages.check(call.body)
    request = parse_chat(call.body)
    call.caller.entry["prompts"] = [last_words(request.messages)]
    answer = chat_completion(request, call.caller.account.dialect, _stamp(call.caller))
    if request.stream:
        return _stream(call.caller, chat_chunks(request, answer))
    return JSONResponse(chat_object(request, answer))


@router.post("/completions")
@router.post("/deployments/{deployment}/completions")
async def create_completion(call: CheckedCall) -> Response:
    request = parse_text(call.body)
    call.caller.entry["prompts"] = texts(request.prompt or "")
    answer = text_completion(request, _stamp(call.caller))
    return (
        _stream(call.caller, text_chunks(request, answer))
        if request.stream
        else JSONResponse(text_object(request, answer))
    )


@router.post("/embeddings")
@router.post("/deployments/{deployment}/embeddings")
async def create_embedding(call: CheckedCall) -> dict[str, Any]:
    request = parse(EmbeddingRequest, call.body)
    call.caller.entry["prompts"] = texts(request.input)
    return embedding_object(request)


def _stamp(caller: Caller) -> Stamp:
    return Stamp(created=int(caller.state.clock.now()))


def _stream(caller: Caller, chunks: Iterator[dict[str, Any]]) -> StreamingResponse:
    latency = caller.state.latency(caller.account.name)
    sent: list[float] = caller.entry.setdefault("sent", [])

    async def events() -> AsyncIterator[bytes]:
        pause = latency.first_token
        for chunk in chunks:
            await caller.state.clock.sleep(pause)
            pause = latency.between_tokens
            sent.append(caller.state.clock.now())
            yield b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(400, None, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise Refusal(400, None, "The body of your request is no JSON object.")
    return body


def _no_model(caller: Caller, model: str) -> Refusal:
    if caller.account.dialect == "azure":
        return Refusal(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
    words = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, "model_not_found", words, "model")
