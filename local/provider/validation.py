"""The validation of a batch's lines before it starts."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.provider.accounts import Account
from local.provider.lenient_json import loads
from local.provider.lines import BOM, normal_url, raw_lines

MAX_ERRORS = 100
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


def validate(path: Path, endpoint: str, account: Account, max_requests: int | None = None) -> Report:
    """Check every line as the provider does before a batch starts. Memory: eight bytes a line."""
    report, hashes = Report(), array("q")
    limit = max_requests or MAX_LINES[account.dialect]
    for number, raw in enumerate(raw_lines(path), start=1):
        report.total += 1
        _check_line(report, number, raw, endpoint, account, hashes)
    _check_ids(report, path, hashes)
    if report.total == 0:
        report.add("empty_file", "The input file is empty.")
    if report.total > limit:
        report.add("too_many_tasks", f"The input file has more than {limit} requests.")
    return report


def _check_line(report: Report, number: int, raw: bytes, endpoint: str, account: Account, hashes: "array[int]") -> None:
    line = _parsed(raw, account)
    if line is None:
        return report.add("invalid_json_line", "This line is not parseable as valid JSON.", number)
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not isinstance(body, dict):
        missing = "body" if isinstance(custom_id, str) else "custom_id"
        return report.add("missing_required_parameter", f"Missing required parameter: '{missing}'.", number, missing)
    hashes.append(hash(custom_id))
    _check_request(report, number, line, body, endpoint)
    _check_model(report, number, body.get("model"), account)
    return None


def _check_ids(report: Report, path: Path, hashes: "array[int]") -> None:
    """Name the lines whose `custom_id` an earlier one has. Only if any has are the lines read once more."""
    repeated, seen = _repeated(hashes), set[str]()
    if not repeated:
        return
    for number, raw in enumerate(raw_lines(path), start=1):
        try:
            custom_id = loads(raw.removeprefix(BOM))["custom_id"]
        except (ValueError, LookupError, TypeError):
            continue
        if not isinstance(custom_id, str) or hash(custom_id) not in repeated:
            continue
        if custom_id in seen:
            words = f"The custom_id '{custom_id}' is used more than once."
            report.add("duplicate_custom_id", words, number, "custom_id")
        seen.add(custom_id)
    report.errors.sort(key=lambda error: (error["line"] or 0, error["code"] != "duplicate_custom_id"))


def _repeated(hashes: "array[int]") -> set[int]:
    """The values that occur more than once. A part of them at a time is in a set: Python's takes 64 bytes for each."""
    repeated, parts = set[int](), 1 + len(hashes) // 100_000
    for part in range(parts):
        seen = set[int]()
        for value in hashes if parts == 1 else (one for one in hashes if one % parts == part):
            (repeated if value in seen else seen).add(value)
    return repeated


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
        line = loads(raw.removeprefix(BOM))
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
