"""The validation of a batch's lines before it starts."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.provider.accounts import Account
from local.provider.line_shape import LineShape, Problem
from local.provider.lines import raw_lines

MAX_ERRORS = 100


@dataclass
class Report:
    """The result of a validation."""

    total: int = 0
    model: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, problem: Problem, line: int | None = None) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"code": problem.code, "message": problem.message, "param": problem.param, "line": line})


def validate(path: Path, shape: LineShape, account: Account, max_requests: int | None = None) -> Report:
    """Check every line as the provider does before a batch starts. Memory: eight bytes a line."""
    report, hashes = Report(), array("q")
    limit = max_requests or shape.max_lines
    for number, raw in enumerate(raw_lines(path), start=1):
        report.total += 1
        _check_line(report, number, raw, shape, account, hashes)
    _check_ids(report, path, shape, hashes)
    if report.total == 0:
        report.add(Problem("empty_file", "The input file is empty."))
    if report.total > limit:
        report.add(Problem("too_many_tasks", f"The input file has more than {limit} requests."))
    return report


def _check_line(
    report: Report, number: int, raw: bytes, shape: LineShape, account: Account, hashes: "array[int]"
) -> None:
    try:
        request = shape.read(raw)
    except Problem as unreadable:
        return report.add(unreadable, number)
    if request.id:
        hashes.append(hash(request.id))
    for problem in shape.problems(request):
        report.add(problem, number)
    if request.model is not None:
        _check_model(report, number, request.model, account)
    return None


def _check_ids(report: Report, path: Path, shape: LineShape, hashes: "array[int]") -> None:
    """Name the lines whose `custom_id` an earlier one has. Only if any has are the lines read once more."""
    repeated, seen = repeated_values(hashes), set[str]()
    if not repeated:
        return
    for number, raw in enumerate(raw_lines(path), start=1):
        try:
            custom_id = shape.read(raw).id
        except Problem:
            continue
        if not custom_id or hash(custom_id) not in repeated:
            continue
        if custom_id in seen:
            words = f"The custom_id '{custom_id}' is used more than once."
            report.add(Problem("duplicate_custom_id", words, "custom_id"), number)
        seen.add(custom_id)
    report.errors.sort(key=lambda error: (error["line"] or 0, error["code"] != "duplicate_custom_id"))


def repeated_values(hashes: "array[int]") -> set[int]:
    """The values that occur more than once. A part of them at a time is in a set: Python's takes 64 bytes for each."""
    repeated, parts = set[int](), 1 + len(hashes) // 100_000
    for part in range(parts):
        seen = set[int]()
        for value in hashes if parts == 1 else (one for one in hashes if one % parts == part):
            (repeated if value in seen else seen).add(value)
    return repeated


def _check_model(report: Report, number: int, model: str, account: Account) -> None:
    if model not in account.models:
        words = f"The provided model '{model}' is not available here."
        report.add(Problem("model_not_found", words, "body.model"), number)
    elif report.model is None:
        report.model = model
    elif model != report.model:
        report.add(Problem("model_mismatch", "All lines must name the same model.", "body.model"), number)
