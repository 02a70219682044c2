"""The routes of batches in the dialects of OpenAI and Azure."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import ValidationError

from local.provider.accounts import Account
from local.provider.batch import ENDED, Batch
from local.provider.callers import AuthenticatedCaller, Caller
from local.provider.expiry import check_expiry
from local.provider.hosts import Host
from local.provider.openai_lines import OpenAILines, normal_url
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

MAX_PAGE, ALL = 100, 1_000_000
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512


class Expiry(Strict):
    anchor: str
    seconds: int


class BatchCreate(Strict):
    input_file_id: str
    endpoint: str
    completion_window: str | None = None
    metadata: dict[str, str] | None = None
    output_expires_after: Expiry | None = None
    auto_delete_input_file: bool | None = None


router = APIRouter()


@router.post("/batches")
def create_batch(
    body: dict[str, Any],
    caller: AuthenticatedCaller,
    key: Annotated[str, Header(alias="idempotency-key")] = "",
) -> dict[str, Any]:
    host, parameters = caller.account.quirks, _parse(body)
    caller.entry.update(metadata=parameters.metadata, input_file_id=parameters.input_file_id)
    _check_members(body, host)
    _check_endpoint(parameters.endpoint, caller.account)
    _check_metadata(parameters.metadata)
    if parameters.output_expires_after is not None:
        check_expiry(caller, parameters.output_expires_after.anchor, parameters.output_expires_after.seconds)
    known = caller.state.created.get((caller.account.name, key)) if host.has_keys and key else None
    if known is not None:
        return _shown(caller, caller.state.batches.get(caller.account.name, known))
    file = caller.state.files.get(caller.account.name, parameters.input_file_id)
    if file.purpose != "batch" or caller.state.clock.now() < file.usable_at:
        raise Refusal(400, "invalidPayload", "The input file is not a processed file of purpose batch.")
    deletes = host.deletes_input and parameters.auto_delete_input_file is not False
    batch = caller.state.batches.create(
        caller.account,
        file,
        OpenAILines(caller.account, parameters.endpoint),
        endpoint=parameters.endpoint,
        window=_window(parameters.completion_window, host),
        metadata=parameters.metadata,
        batch_id=host.new_batch_id and host.new_batch_id(),
        new_file_id=host.new_file_id,
        deliver=(lambda ended, _: caller.state.files.discard(ended.file.id)) if deletes else None,
    )
    if key:
        caller.state.created[caller.account.name, key] = batch.id
    caller.entry.update(batch_id=batch.id)
    return _shown(caller, batch)


@router.get("/batches")
def list_batches(caller: AuthenticatedCaller, after: str | None = None, limit: int | None = None) -> dict[str, Any]:
    host = caller.account.quirks
    if limit is not None and not 1 <= limit <= MAX_PAGE:
        raise Refusal(400, "invalid_value", f"Invalid value: limit must be within 1 and {MAX_PAGE}.", "limit")
    most, start = (limit or host.page, after) if host.page is not None else (ALL, None)
    batches, more = caller.state.batches.page(caller.account.name, start, most)
    return host.paged(caller.dialect.page([_shown(caller, batch) for batch in batches], more))


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, caller.state.batches.get(caller.account.name, batch_id))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, caller.state.batches.cancel(caller.account.name, batch_id))


def _shown(caller: Caller, batch: Batch) -> dict[str, Any]:
    empty = caller.state.files.empty(caller.account.name).id if caller.account.dialect == "azure" else ""
    shown = caller.dialect.batch(batch, caller.state.batches.progress(batch), empty)
    shown = caller.state.batches.defects_of(batch).shown(shown, ended=batch.state in ENDED)
    return caller.account.quirks.shown(shown)


def _parse(body: Mapping[str, Any]) -> BatchCreate:
    try:
        return BatchCreate.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, "invalid_request", f"{field}: {first['msg']}", field) from error


def _check_members(body: Mapping[str, Any], host: Host) -> None:
    if unknown := sorted(body.keys() - host.create):
        raise Refusal(400, "invalid_request", f"Unsupported parameter: '{unknown[0]}'.", unknown[0])


def _window(given: str | None, host: Host) -> str:
    if (given is None and host.window is None) or (given is not None and not host.windows.fullmatch(given)):
        raise Refusal(400, "invalid_value", "Invalid value: completion_window.", "completion_window")
    return host.window or str(given)


def _check_endpoint(endpoint: str, account: Account) -> None:
    azure = account.dialect == "azure"
    known = normal_url(endpoint) == "/chat/completions" if azure else endpoint in account.quirks.endpoints
    if not known:
        raise Refusal(400, "invalid_value", f"Invalid value: '{endpoint}' is no endpoint of batches.", "endpoint")


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    pairs = (metadata or {}).items()
    if len(pairs) > MAX_PAIRS or any(len(key) > MAX_KEY or len(value) > MAX_VALUE for key, value in pairs):
        raise Refusal(400, "invalid_value", "Invalid 'metadata': too many pairs, or one too long.", "metadata")
