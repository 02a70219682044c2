"""The lines of a batch: their validation, and their results."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.provider.accounts import Account
from local.provider.line_answers import answer_line
from local.provider.refusal import Refusal

FAIL_TRIGGER = b"fail-this-line"
"""A line with these words anywhere is answered with a 400, in the error file."""
MAX_ERRORS = 100
BOM = b"\xef\xbb\xbf"
MAX_LINES = {"openai": 50_000, "azure": 100_000, "xai": 1_000_000}
ANY_ENDPOINT = ""
"""The endpoint of a batch whose lines each name their own, as xAI has it."""
XAI_URLS = frozenset({"/v1/chat/completions", "/v1/responses"})


@dataclass
class Report:
    """The result of a validation."""

    total: int = 0
    model: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"code": code, "message": message, "param": param, "line": line})


def validate(path: Path, endpoint: str, account: Account) -> Report:
    """Check every line as the provider does before a batch starts."""
    report, seen = Report(), set[str]()
    for number, raw in enumerate(_raw_lines(path), start=1):
        report.total += 1
        _check_line(report, number, raw, endpoint, account, seen)
    if report.total == 0:
        report.add("empty_file", "The input file is empty.")
    if report.total > MAX_LINES[account.dialect]:
        report.add("too_many_tasks", f"The input file has more than {MAX_LINES[account.dialect]} requests.")
    return report


def answers(path: Path, batch_id: str, created: int, count: int, dialect: str) -> Iterator[tuple[bool, bytes]]:
    """The results of the first `count` lines, each with whether it succeeded, in another order than the input.

    A body that its endpoint does not take fails here: providers do not check bodies at the validation.
    """
    pending: tuple[bool, bytes] | None = None
    for number, raw in enumerate(_raw_lines(path)):
        if number >= count:
            break
        answer = _answer(raw, batch_id, created, dialect)
        if pending is None:
            pending = answer
            continue
        yield answer
        yield pending
        pending = None
    if pending is not None:
        yield pending


def expired(path: Path, batch_id: str, first: int) -> Iterator[bytes]:
    """The error lines of the requests that were not answered in time, from index `first` on."""
    error = {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }
    for number, raw in enumerate(_raw_lines(path)):
        if number >= first:
            custom_id = json.loads(raw)["custom_id"]
            yield _dump(_result(batch_id, custom_id, None, error))


def normal_url(url: object) -> str:
    """An endpoint without its version: Azure takes both forms."""
    return str(url).removeprefix("/v1")


def _raw_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.strip())


def _check_line(report: Report, number: int, raw: bytes, endpoint: str, account: Account, seen: set[str]) -> None:
    line = _parsed(raw, account)
    if line is None:
        return report.add("invalid_json_line", "This line is not parseable as valid JSON.", number)
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not isinstance(body, dict):
        missing = "body" if isinstance(custom_id, str) else "custom_id"
        return report.add("missing_required_parameter", f"Missing required parameter: '{missing}'.", number, missing)
    if custom_id in seen:
        report.add("duplicate_custom_id", f"The custom_id '{custom_id}' is used more than once.", number, "custom_id")
    seen.add(custom_id)
    _check_request(report, number, line, body, endpoint)
    _check_model(report, number, body.get("model"), account)
    return None


def _check_request(
    report: Report, number: int, line: Mapping[str, Any], body: Mapping[str, Any], endpoint: str
) -> None:
    if line.get("method") != "POST":
        report.add("invalid_method", "The method must be POST.", number, "method")
    if not _is_of(line.get("url"), endpoint):
        report.add("url_mismatch", "The URL provided for this request does not match the endpoint.", number, "url")
    if body.get("stream"):
        report.add("invalid_request", "Streaming is not supported in the Batch API.", number, "stream")


def _check_model(report: Report, number: int, model: object, account: Account) -> None:
    if model not in account.models:
        report.add("model_not_found", f"The provided model '{model}' is not available here.", number, "body.model")
    elif report.model is None:
        report.model = str(model)
    elif model != report.model:
        report.add("model_mismatch", "All lines must name the same model.", number, "body.model")


def _is_of(url: object, endpoint: str) -> bool:
    """Whether the line belongs to the batch's endpoint. At Azure a batch of responses names chat completions."""
    if endpoint == ANY_ENDPOINT:
        return url in XAI_URLS
    if endpoint.startswith("/v1"):
        return url == endpoint
    return normal_url(url) == endpoint or (endpoint == "/chat/completions" and normal_url(url) == "/responses")


def _parsed(raw: bytes, account: Account) -> dict[str, Any] | None:
    if raw.startswith(BOM) and account.dialect == "azure":
        return None
    try:
        line = json.loads(raw.removeprefix(BOM))
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _answer(raw: bytes, batch_id: str, created: int, dialect: str) -> tuple[bool, bytes]:
    line = json.loads(raw.removeprefix(BOM))
    custom_id, id_suffix = line["custom_id"], _mark(batch_id, line["custom_id"])
    try:
        if FAIL_TRIGGER in raw:
            raise Refusal(400, None, "This line asked to fail.")
        status, body = 200, answer_line(normal_url(line["url"]), line["body"], dialect, id_suffix, created)
    except Refusal as refusal:
        status, body = refusal.status, _refused(refusal)
    response = {"status_code": status, "request_id": f"req_{id_suffix}", "body": body}
    return status == 200, _dump(_result(batch_id, custom_id, response, None))


def _result(batch_id: str, custom_id: str, response: object, error: object) -> dict[str, Any]:
    return {
        "id": f"batch_req_{_mark(batch_id, custom_id)}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }


def _refused(refusal: Refusal) -> dict[str, Any]:
    kind = {"type": "invalid_request_error", "param": refusal.param, "code": refusal.code}
    return {"error": {"message": refusal.message, **kind}}


def _mark(batch_id: str, custom_id: str) -> str:
    return hashlib.sha256(f"{batch_id} {custom_id}".encode()).hexdigest()[:24]


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
