"""OpenRouter's batches: https://openrouter.ai/docs/batch-quickstart, and `/docs/api/api-reference/batch`

Results are within a completed batch, and in pages for any that has ended. There is no cancel.
"""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from local.provider.batch import ENDED, Batch
from local.provider.lenient_json import dumps, loads
from local.provider.native.common import Caller, bearer, identify, log_create
from local.provider.native.inline_requests import Check, InlineBody, spool
from local.provider.native.openrouter_lines import MAX_LINES, REQUIRED, OpenRouterLines, cost
from local.provider.refusal import Refusal

MAX_BYTES = 200 * 1024 * 1024
MAX_PAGE, MAX_RESULTS, MAX_BATCHES = 100, 1_000, 1_000_000
DAY = 86_400
KEPT_SECONDS = 30 * DAY
MEMBERS = {"endpoint", "model", "requests", "callback_url", "completion_window", "provider"}
PREFERENCES = {"only", "allow_fallbacks"}
LISTED = {"finalizing": "in_progress", "cancelling": "in_progress"}
"""What a list shows of these states."""
LIST_STATUSES = {"validating", "in_progress", "completed", "failed", "expired", "cancelled"}
UNAUTHORISED = Refusal(401, None, "No auth credentials found")
TOO_LARGE = Refusal(413, None, "The request body is too large")


def authenticate(http_request: Request, account: str) -> Caller:
    return identify(http_request, account, "openrouter", bearer(http_request), UNAUTHORISED)


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/api/v1/batches")


@router.post("")
async def create_batch(http_request: Request, caller: AuthenticatedCaller) -> JSONResponse:
    account, quotas = caller.account, caller.state.quotas

    def checks(inline: InlineBody) -> Check:
        _check_members(caller, inline.members)
        return _checked_id

    file, members = await spool(
        http_request,
        caller.state.files,
        account.name,
        checks,
        limit=quotas.upload_limit(account.name, MAX_BYTES),
        too_large=TOO_LARGE,
    )
    for name in members.keys() - MEMBERS:
        raise Refusal(400, None, f"{name}: Unrecognized key")
    endpoint, model = members["endpoint"], members["model"]
    most = quotas.of((account.name, model)).max_batch_requests or MAX_LINES
    if not 1 <= file.lines <= most:
        raise Refusal(400, None, f"requests: must have 1 to {most} requests, not {file.lines}")
    batch = caller.state.batches.create(
        account,
        file,
        OpenRouterLines(account, endpoint, model),
        endpoint=endpoint,
        model=model,
        batch_id=f"batch-{secrets.token_hex(12)}",
    )
    with file.path.open("rb") as lines:
        first_id = str(loads(lines.readline())["custom_id"])
    log_create(http_request, batch, first_id.rpartition("-")[0] or first_id)
    return JSONResponse(_batch(caller, batch), 202)


@router.get("")
def list_batches(
    caller: AuthenticatedCaller,
    limit: int = 20,
    after: str | None = None,
    status: Annotated[list[str] | None, Query()] = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
) -> dict[str, Any]:
    if not 1 <= limit <= MAX_PAGE:
        raise Refusal(400, None, f"limit: must be within 1 and {MAX_PAGE}")
    if unknown := set(status or ()) - LIST_STATUSES:
        raise Refusal(400, None, f"status: {min(unknown)} is no status of lists")
    batches, _ = caller.state.batches.page(caller.account.name, after, MAX_BATCHES)
    page = [
        batch
        for batch in batches
        if (not status or LISTED.get(batch.state, batch.state) in status)
        and (created_after is None or batch.created_at > _unix(created_after))
        and (created_before is None or batch.created_at < _unix(created_before))
    ]
    shown = [_batch(caller, batch) for batch in page[:limit]]
    for one in shown:
        one["status"] = LISTED.get(one["status"], one["status"])
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": len(page) > limit}


@router.get("/{batch_id}")
def retrieve_batch(batch_id: str, caller: AuthenticatedCaller) -> Response:
    batch = _kept(caller, batch_id)
    results = None
    if batch.state == "completed" and caller.state.batches.shown(batch)["output_file_id"] == batch.output_file_id:
        results, _ = _results(caller, batch, 0, MAX_LINES)
    return _with_list(_batch(caller, batch), "results", results)


@router.get("/{batch_id}/results")
def batch_results(batch_id: str, caller: AuthenticatedCaller, cursor: str = "0", limit: int = MAX_RESULTS) -> Response:
    batch = _kept(caller, batch_id)
    if not 1 <= limit <= MAX_RESULTS or not cursor.isdecimal():
        raise Refusal(400, None, "limit or cursor is invalid")
    if batch.state not in ENDED:
        raise Refusal(409, None, "The batch is still in progress")
    results, following = _results(caller, batch, int(cursor), limit)
    page = {"object": "list", "data": None, "has_more": following is not None, "next_cursor": following}
    return _with_list(page, "data", results)


@router.delete("/{batch_id}")
def delete_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if batch.state not in ENDED:
        raise Refusal(409, None, "Only a batch in a terminal status can be deleted")
    caller.state.batches.forget(batch_id)
    upstream = {"upstream": {"provider": _provider(batch), "status": "unsupported"}} if batch.started else {}
    return {"id": batch_id, "object": "batch", "deletion": {"openrouter": "deleted", **upstream}}


def _check_members(caller: Caller, members: Mapping[str, Any]) -> None:
    """Of what is read when the first request is: the body is parsed as it arrives."""
    endpoint, model = members.get("endpoint"), members.get("model")
    if endpoint is None or model is None:
        raise Refusal(400, None, "`endpoint` and `model` must appear before `requests` in the request body")
    if endpoint not in REQUIRED:
        raise Refusal(400, None, f"endpoint: must be one of {', '.join(REQUIRED)}")
    if model not in caller.account.models:
        raise Refusal(400, None, f"Model '{model}' does not have a :batch endpoint.")
    if members.get("completion_window", "24h") != "24h":
        raise Refusal(400, None, "completion_window: must be '24h'")
    if not str(members.get("callback_url", "https://")).startswith("https://"):
        raise Refusal(400, None, "callback_url: must be an HTTPS URL")
    if (members.get("provider") or {}).keys() - PREFERENCES:
        raise Refusal(400, None, "provider: only `only` and `allow_fallbacks` are supported")
    if members.get("requests") != ():
        raise Refusal(400, None, "requests: must be an array of requests")


def _checked_id(index: int, request: Any) -> str:
    where = f"requests[{index}]"
    if not isinstance(request, dict) or request.keys() != {"custom_id", "body"}:
        raise Refusal(400, None, f"{where}: must have `custom_id` and `body`, and nothing else")
    custom_id = request["custom_id"]
    if not isinstance(custom_id, str) or not custom_id or not isinstance(request["body"], dict):
        raise Refusal(400, None, f"{where}: custom_id must be a string, and body an object")
    return custom_id


def _kept(caller: Caller, batch_id: str) -> Batch:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if caller.state.clock.now() >= batch.created_at + KEPT_SECONDS:
        raise Refusal(410, None, "The results of the batch are no longer kept")
    return batch


def _batch(caller: Caller, batch: Batch) -> dict[str, Any]:
    """The batch without its results."""
    counts = dict(caller.state.batches.shown(batch)["request_counts"])
    ends = [int(moment) for state, moment in batch.times.items() if state in ENDED]
    tokens = batch.input_tokens, batch.output_tokens
    usage = {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
        "cost": cost(*tokens),
        "is_byok": False,
    }
    if not batch.total and batch.state != "failed":
        counts["total"] = batch.file.lines
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "provider": _provider(batch) if batch.started else None,
        "completion_window": "24h",
        "status": batch.state,
        "created_at": int(batch.created_at),
        "finalized_at": ends[0] if ends else None,
        "expires_at": int(batch.created_at) + DAY,
        "request_counts": {name: counts[name] for name in ("total", "completed", "failed")},
        "results": None,
        "usage": usage if batch.state in ENDED and tokens != (0, 0) else None,
        "error": {"message": batch.errors[0]["message"]} if batch.errors else None,
    }


def _results(caller: Caller, batch: Batch, start: int, limit: int) -> tuple[list[bytes], str | None]:
    """A page of results, and the cursor of the next."""
    if batch.output_file_id is None:
        return [], None
    with caller.state.files.get(caller.account.name, batch.output_file_id).path.open("rb") as lines:
        page = [line.rstrip() for line in itertools.islice(lines, start, start + limit)]
        return page, str(start + limit) if lines.readline() else None


def _with_list(answer: Mapping[str, Any], name: str, results: Sequence[bytes] | None) -> Response:
    """The answer with these results as they are written, even those that are no JSON, in place of the null there."""
    body = dumps(answer)
    if results is not None:
        member = f'"{name}":'.encode()
        body = body.replace(member + b"null", member + b"[" + b",".join(results) + b"]", 1)
    return Response(body, media_type="application/json")


def _provider(batch: Batch) -> str:
    return "Anthropic" if str(batch.model).startswith("anthropic/") else "OpenAI"


def _unix(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
