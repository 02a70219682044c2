"""The routes of batches in the dialects of OpenAI and Azure."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError

from local.provider.accounts import Account
from local.provider.batch import ENDED, Batch
from local.provider.callers import AuthenticatedCaller, Caller
from local.provider.expiry import check_expiry
from local.provider.line_answers import ENDPOINTS
from local.provider.openai_lines import OpenAILines, normal_url
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512


class Expiry(Strict):
    anchor: str
    seconds: int


class BatchCreate(Strict):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: Expiry | None = None


router = APIRouter()


@router.post("/batches")
def create_batch(body: dict[str, Any], caller: AuthenticatedCaller) -> dict[str, Any]:
    parameters = _parse(body)
    caller.entry.update(metadata=parameters.metadata, input_file_id=parameters.input_file_id)
    _check_endpoint(parameters.endpoint, caller.account)
    _check_metadata(parameters.metadata)
    if parameters.completion_window != "24h":
        raise Refusal(400, "invalid_value", "Invalid value: completion_window must be '24h'.", "completion_window")
    if parameters.output_expires_after is not None:
        check_expiry(caller, parameters.output_expires_after.anchor, parameters.output_expires_after.seconds)
    file = caller.state.files.get(caller.account.name, parameters.input_file_id)
    if file.purpose != "batch" or caller.state.clock.now() < file.usable_at:
        raise Refusal(400, "invalidPayload", "The input file is not a processed file of purpose batch.")
    batch = caller.state.batches.create(
        caller.account,
        file,
        OpenAILines(caller.account, parameters.endpoint),
        endpoint=parameters.endpoint,
        window=parameters.completion_window,
        metadata=parameters.metadata,
    )
    caller.entry.update(batch_id=batch.id)
    return _shown(caller, batch)


@router.get("/batches")
def list_batches(caller: AuthenticatedCaller, after: str | None = None, limit: int = 20) -> dict[str, Any]:
    if not 1 <= limit <= 100:
        raise Refusal(400, "invalid_value", "Invalid value: limit must be within 1 and 100.", "limit")
    batches, more = caller.state.batches.page(caller.account.name, after, limit)
    return caller.dialect.page([_shown(caller, batch) for batch in batches], more)


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, caller.state.batches.get(caller.account.name, batch_id))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, caller.state.batches.cancel(caller.account.name, batch_id))


def _shown(caller: Caller, batch: Batch) -> dict[str, Any]:
    shown = caller.dialect.batch(
        batch, caller.state.batches.progress(batch), caller.state.files.empty(caller.account.name).id
    )
    return caller.state.batches.defects_of(batch).shown(shown, ended=batch.state in ENDED)


def _parse(body: Mapping[str, Any]) -> BatchCreate:
    try:
        return BatchCreate.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, "invalid_request", f"{field}: {first['msg']}", field) from error


def _check_endpoint(endpoint: str, account: Account) -> None:
    known = normal_url(endpoint) in ENDPOINTS
    if account.dialect == "azure":
        known = normal_url(endpoint) == "/chat/completions"
    elif not endpoint.startswith("/v1/"):
        known = False
    if not known:
        raise Refusal(400, "invalid_value", f"Invalid value: '{endpoint}' is no endpoint of batches.", "endpoint")


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    pairs = (metadata or {}).items()
    if len(pairs) > MAX_PAIRS or any(len(key) > MAX_KEY or len(value) > MAX_VALUE for key, value in pairs):
        raise Refusal(400, "invalid_value", "Invalid 'metadata': too many pairs, or one too long.", "metadata")
