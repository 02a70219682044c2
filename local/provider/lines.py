"""The lines of a batch, and their results."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_answers import answer_line
from local.provider.line_faults import LineFaults
from local.provider.refusal import Refusal

FAIL_TRIGGER = b"fail-this-line"
"""A line with these words anywhere is answered with a 400, in the error file."""
BOM = b"\xef\xbb\xbf"


class Answer(NamedTuple):
    """The result of a line."""

    succeeded: bool
    line: bytes
    input_tokens: int = 0
    output_tokens: int = 0


def answers(
    path: Path, batch_id: str, created: int, count: int, dialect: str, faults: LineFaults | None = None
) -> Iterator[Answer]:
    """The results of the first `count` lines, in another order than the input: each pair the other way round.

    A body that its endpoint does not take fails here: providers do not check bodies at the validation.
    """
    pending: Answer | None = None
    for number, raw in enumerate(islice(raw_lines(path), count), start=1):
        answer = _answer(number, raw, batch_id, created, dialect, faults)
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
    for raw in islice(raw_lines(path), first, None):
        custom_id = loads(raw.removeprefix(BOM))["custom_id"]
        yield _dump(_result(_mark(batch_id, custom_id), custom_id, None, error))


def normal_url(url: object) -> str:
    """An endpoint without its version: Azure takes both forms."""
    return str(url).removeprefix("/v1")


def raw_lines(path: Path) -> Iterator[bytes]:
    """The lines that are not blank, with their ends."""
    with path.open("rb") as file:
        yield from (line for line in file if not line.isspace())


def _answer(number: int, raw: bytes, batch_id: str, created: int, dialect: str, faults: LineFaults | None) -> Answer:
    line = loads(raw.removeprefix(BOM))
    custom_id = line["custom_id"]
    mark = _mark(batch_id, custom_id)
    try:
        if faults is not None and (error := faults.strike(number, raw, custom_id)) is not None:
            return Answer(False, _dump(_result(mark, custom_id, None, error)))
        if FAIL_TRIGGER in raw:
            raise Refusal(400, None, "This line asked to fail.")
        body = answer_line(normal_url(line["url"]), line["body"], dialect, Stamp(mark, created))
    except Refusal as refusal:
        return Answer(False, _dump(_result(mark, custom_id, _response(refusal.status, mark, _refused(refusal)), None)))
    result = _dump(_result(mark, custom_id, _response(200, mark, body), None))
    return Answer(True, result, *usage_tokens(body["usage"]))


def _response(status: int, mark: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": f"req_{mark}", "body": body}


def _result(mark: str, custom_id: str, response: object, error: object) -> dict[str, Any]:
    return {"id": f"batch_req_{mark}", "custom_id": custom_id, "response": response, "error": error}


def usage_tokens(usage: Mapping[str, int]) -> tuple[int, int]:
    """Input and output tokens; embeddings have no output."""
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage.get("completion_tokens", 0)
    return usage["input_tokens"], usage["output_tokens"]


def _refused(refusal: Refusal) -> dict[str, Any]:
    kind = "invalid_request_error" if refusal.status < 500 and refusal.status != 429 else "server_error"
    error = {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}
    return {"error": error}


def _mark(batch_id: str, custom_id: str) -> str:
    return hashlib.sha256(f"{batch_id} {custom_id}".encode()).hexdigest()[:24]


def _dump(value: Mapping[str, Any]) -> bytes:
    return dumps(value) + b"\n"
