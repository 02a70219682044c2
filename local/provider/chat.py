"""The routes of completions and embeddings, in OpenAI's dialect and Azure's."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.responses import JSONResponse, Response

from local.provider import mistral
from local.provider.answers import (
    chat_answer,
    chat_chunks,
    chat_object,
    embedding_object,
    text_answer,
    text_chunks,
    text_object,
)
from local.provider.api import Called, Caller
from local.provider.asks import EmbeddingAsk, chat_ask, read_ask, text_ask
from local.provider.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """A call's body, after its model was found."""

    who: Caller
    body: dict[str, Any]


async def asked(request: Request, who: Called) -> Asked:
    """The body of a call to a model of the account's: named by the path in Azure's dated form, else by the body."""
    body = await _json(request)
    deployment = request.path_params.get("deployment")
    if (deployment is not None) != (who.version is not None):
        raise Refusal(404, "404", "Resource not found")
    model = deployment or body.get("model")
    who.entry.update(model=model, stream=bool(body.get("stream")), parameters=sorted(body), body=body)
    if model is None:
        raise Refusal(400, "missing_required_parameter", "you must provide a model parameter", "model")
    if model not in who.account.models:
        raise _no_model(who, str(model))
    await asyncio.sleep(who.state.latency(who.account.name).answer)
    return Asked(who, body | {"model": model})


Ask = Annotated[Asked, Depends(asked)]
router = APIRouter()


@router.post("/chat/completions")
@router.post("/deployments/{deployment}/chat/completions")
async def create_chat_completion(call: Ask) -> Response:
    if call.who.account.name == "mistral":
        mistral.check(call.body)
    ask = chat_ask(call.body)
    answer = chat_answer(ask, call.who.account.dialect)
    if ask.stream:
        return _stream(call.who, chat_chunks(ask, answer))
    return JSONResponse(chat_object(ask, answer))


@router.post("/completions")
@router.post("/deployments/{deployment}/completions")
async def create_completion(call: Ask) -> Response:
    ask = text_ask(call.body)
    answer = text_answer(ask)
    return _stream(call.who, text_chunks(ask, answer)) if ask.stream else JSONResponse(text_object(ask, answer))


@router.post("/embeddings")
@router.post("/deployments/{deployment}/embeddings")
async def create_embedding(call: Ask) -> dict[str, Any]:
    return embedding_object(read_ask(EmbeddingAsk, call.body))


def _stream(who: Caller, chunks: Iterator[dict[str, Any]]) -> StreamingResponse:
    latency = who.state.latency(who.account.name)

    async def events() -> AsyncIterator[bytes]:
        pause = latency.first_token
        for chunk in chunks:
            await asyncio.sleep(pause)
            pause = latency.between_tokens
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


def _no_model(who: Caller, model: str) -> Refusal:
    if who.account.dialect == "azure":
        return Refusal(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
    words = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, "model_not_found", words, "model")
