"""Anthropic's Message Batches: https://platform.claude.com/docs/en/api/messages/batches

What a request asks for is checked when it is executed: a bad one is an `errored` line, and no error of the create.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from starlette.responses import Response

from local.provider.accounts import Account
from local.provider.batch import ENDED, Batch
from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_shape import LATE, Answer, Marks, Problem, Unanswered
from local.provider.line_shape import Request as LineRequest
from local.provider.native.anthropic import UNAUTHORISED, message
from local.provider.native.common import Caller, identify, log_create
from local.provider.native.error_formats import AnthropicErrorFormat
from local.provider.native.inline_requests import Check, InlineBody, spool
from local.provider.refusal import Refusal

MAX_REQUESTS, MAX_BYTES, MAX_PAGE = 100_000, 256 * 1024 * 1024, 1_000
DAY = 86_400
KEPT_SECONDS = 29 * DAY
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
VERSION = "2023-06-01"
ERRORS = AnthropicErrorFormat()
STATUSES = {"cancelling": "canceling", **dict.fromkeys(ENDED, "ended")}
"""Of a batch's states; in any other it is `in_progress`."""
RESULTS = {"batch_expired": "expired", "batch_cancelled": "canceled"}
TOO_LARGE = Refusal(413, None, "Request exceeds the maximum size")


class AnthropicLines:
    """https://platform.claude.com/docs/en/api/messages/batches/results"""

    marks = Marks(content=b'"text":"', response=b'"result":{', first_member=b'"type":"succeeded",', body=b'"message":{')
    max_lines = MAX_REQUESTS
    one_list = True
    shuffled = True
    endings: Mapping[str, Unanswered] = {
        "expired": Unanswered("batch_expired", LATE),
        "cancelled": Unanswered("batch_cancelled", "The batch was canceled."),
        "failed": Unanswered("api_error", "Internal server error"),
    }

    def __init__(self, account: Account) -> None:
        self._models = account.models

    def read(self, raw: bytes) -> LineRequest:
        line = loads(raw)
        return LineRequest(line["custom_id"], line["params"])

    def problems(self, request: LineRequest) -> Iterator[Problem]:
        yield from ()

    def tried(self, request: LineRequest) -> str:
        return hashlib.sha256(dumps(request.body)).hexdigest()

    def answer(self, request: LineRequest, stamp: Stamp) -> Answer:
        model = request.body.get("model")
        if request.body.get("stream"):
            raise Refusal(400, None, "stream: Streaming is not supported in a batch")
        answer = message(request.body)
        if model not in self._models:
            raise Refusal(404, None, f"model: {model}")
        usage = answer["usage"] | {"service_tier": "batch"}
        answer |= {"id": f"msg_{stamp.id_suffix}", "usage": usage}
        line = _line(request.id, {"type": "succeeded", "message": answer})
        return Answer(True, line, usage["input_tokens"], usage["output_tokens"])

    def refused(self, request: LineRequest, refusal: Refusal, stamp: Stamp) -> bytes:
        return _line(request.id, {"type": "errored", "error": ERRORS.error(refusal)})

    def unanswered(self, request: LineRequest, why: Unanswered, stamp: Stamp) -> bytes:
        if why.code in RESULTS:
            return _line(request.id, {"type": RESULTS[why.code]})
        return self.refused(request, Refusal(500, why.code, why.message), stamp)


def authenticate(http_request: Request, account: str) -> Caller:
    caller = identify(http_request, account, "anthropic", http_request.headers.get("x-api-key", ""), UNAUTHORISED)
    if http_request.headers.get("anthropic-version") != VERSION:
        raise Refusal(400, None, "anthropic-version: header is required")
    return caller


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/v1/messages/batches")


@router.post("")
async def create_batch(http_request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    account, quotas = caller.account, caller.state.quotas
    file, members = await spool(
        http_request,
        caller.state.files,
        account.name,
        _checks,
        limit=quotas.upload_limit(account.name, MAX_BYTES),
        too_large=TOO_LARGE,
        model_at=("params", "model"),
    )
    _check_members(members)
    if not file.lines:
        raise Refusal(400, None, "requests: List should have at least 1 item after validation, not 0")
    most = quotas.of((account.name, file.models[0] if file.models else "")).max_batch_requests or MAX_REQUESTS
    if file.lines > most:
        raise Refusal(413, None, f"requests: List should have at most {most} items after validation")
    batch = caller.state.batches.create(
        account, file, AnthropicLines(account), batch_id=f"msgbatch_{secrets.token_hex(12)}"
    )
    with file.path.open("rb") as lines:
        first_id = str(loads(lines.readline())["custom_id"])
    log_create(http_request, batch, first_id.rpartition("-")[0] or first_id)
    return _batch(http_request, caller, batch)


@router.get("")
def list_batches(
    http_request: Request,
    caller: AuthenticatedCaller,
    limit: int = 20,
    after_id: str | None = None,
    before_id: str | None = None,
) -> dict[str, Any]:
    if not 1 <= limit <= MAX_PAGE:
        raise Refusal(400, None, f"limit: Input should be within 1 and {MAX_PAGE}")
    if after_id and before_id:
        raise Refusal(400, None, "Only one of before_id and after_id may be given")
    batches = caller.state.batches
    if before_id:
        newer = _newer(caller, before_id)
        page, more = newer[-limit:], len(newer) > limit
    else:
        page, more = batches.page(caller.account.name, after_id, limit)
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    shown = [_batch(http_request, caller, batch) for batch in page]
    return {"data": shown, "has_more": more, "first_id": first, "last_id": last}


@router.get("/{batch_id}")
def retrieve_batch(batch_id: str, http_request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _batch(http_request, caller, caller.state.batches.get(caller.account.name, batch_id))


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, http_request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if batch.state in ENDED:
        raise Refusal(400, None, f"Batch {batch_id} has ended and cannot be canceled")
    return _batch(http_request, caller, caller.state.batches.cancel(caller.account.name, batch_id))


@router.delete("/{batch_id}")
def delete_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if batch.state not in ENDED:
        raise Refusal(400, None, f"Batch {batch_id} cannot be deleted while it is in progress")
    caller.state.batches.forget(batch_id)
    return {"id": batch_id, "type": "message_batch_deleted"}


@router.get("/{batch_id}/results")
def batch_results(batch_id: str, caller: AuthenticatedCaller) -> Response:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if batch.state not in ENDED or _archived(caller, batch) is not None:
        raise Refusal(404, None, f"Batch {batch_id} has no available results")
    if batch.output_file_id is None:
        return Response(media_type="application/x-jsonl")
    return FileResponse(
        caller.state.files.get(caller.account.name, batch.output_file_id).path, media_type="application/x-jsonl"
    )


def _checks(inline: InlineBody) -> Check:
    _check_members(inline.members)
    return _checked_id


def _check_members(members: Mapping[str, Any]) -> None:
    if "requests" not in members:
        raise Refusal(400, None, "requests: Field required")
    if members["requests"] != ():
        raise Refusal(400, None, "requests: Input should be a valid list")
    for name in members.keys() - {"requests"}:
        raise Refusal(400, None, f"{name}: Extra inputs are not permitted")


def _checked_id(index: int, request: Any) -> str:
    where = f"requests.{index}"
    if not isinstance(request, dict):
        raise Refusal(400, None, f"{where}: Input should be a valid dictionary")
    for name in request.keys() - {"custom_id", "params"}:
        raise Refusal(400, None, f"{where}.{name}: Extra inputs are not permitted")
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
        words = "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
        raise Refusal(400, None, f"{where}.custom_id: {words}")
    if not isinstance(request.get("params"), dict):
        raise Refusal(400, None, f"{where}.params: Field required")
    return custom_id


def _newer(caller: Caller, batch_id: str) -> list[Batch]:
    """The batches that are newer than this one, the newest first."""
    older, _ = caller.state.batches.page(caller.account.name, batch_id, MAX_REQUESTS)
    everything, _ = caller.state.batches.page(caller.account.name, None, MAX_REQUESTS)
    return everything[: len(everything) - len(older) - 1]


def _batch(http_request: Request, caller: Caller, batch: Batch) -> dict[str, Any]:
    shown = caller.state.batches.shown(batch)
    status = STATUSES.get(batch.state, "in_progress")
    ended, archived = status == "ended", _archived(caller, batch)
    readable = ended and archived is None and shown["output_file_id"] == batch.output_file_id
    address = str(http_request.base_url).rstrip("/") + f"/accounts/{caller.account.name}/anthropic"
    ends = [moment for state, moment in batch.times.items() if state in ENDED]
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": _counts(batch, shown["request_counts"], ended=ended),
        "created_at": _moment(batch.created_at),
        "expires_at": _moment(batch.created_at + DAY),
        "ended_at": _moment(ends[0]) if ends else None,
        "archived_at": _moment(archived) if archived else None,
        "cancel_initiated_at": _moment(batch.times.get("cancelling") or batch.times.get("cancelled")),
        "results_url": f"{address}/v1/messages/batches/{batch.id}/results" if readable else None,
    }


def _counts(batch: Batch, counts: Mapping[str, Any], *, ended: bool) -> dict[str, Any]:
    """Nothing is counted until all is done."""
    rest = batch.file.lines - batch.done
    if not ended:
        tally = {"processing": batch.file.lines, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    else:
        tally = {
            "processing": 0,
            "succeeded": counts["completed"],
            "errored": batch.failed + rest if batch.state == "failed" else counts["failed"],
            "canceled": rest if batch.state == "cancelled" else 0,
            "expired": rest if batch.state == "expired" else 0,
        }
    return {name: str(count) for name, count in tally.items()} if isinstance(counts["total"], str) else tally


def _archived(caller: Caller, batch: Batch) -> float | None:
    moment = batch.created_at + KEPT_SECONDS
    return moment if caller.state.clock.now() >= moment else None


def _line(custom_id: str, result: Mapping[str, Any]) -> bytes:
    return dumps({"custom_id": custom_id, "result": result}) + b"\n"


def _moment(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")
