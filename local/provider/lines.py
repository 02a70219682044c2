"""The lines of a batch, and their results, whatever their shape."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from local.provider.completion_objects import Stamp
from local.provider.line_faults import LineFaults
from local.provider.line_shape import Answer, LineShape, Unanswered
from local.provider.refusal import Refusal

FAIL_TRIGGER = b"fail-this-line"
"""A line with these words anywhere is answered with a 400."""
BOM = b"\xef\xbb\xbf"


def answers(
    path: Path, shape: LineShape, batch_id: str, created: int, count: int, faults: LineFaults | None = None
) -> Iterator[Answer]:
    """The results of the first `count` lines, in another order than the input: each pair the other way round.

    A body that its endpoint does not take fails here: providers do not check bodies at the validation.
    """
    pending: Answer | None = None
    for number, raw in enumerate(islice(raw_lines(path), count), start=1):
        answer = _answer(number, raw, shape, batch_id, created, faults)
        if pending is None:
            pending = answer
            continue
        yield answer
        yield pending
        pending = None
    if pending is not None:
        yield pending


def unanswered(
    path: Path, shape: LineShape, batch_id: str, created: int, first: int, why: Unanswered
) -> Iterator[bytes]:
    """The lines of the requests that were not answered, from index `first` on."""
    for raw in islice(raw_lines(path), first, None):
        request = shape.read(raw)
        yield shape.unanswered(request, why, Stamp(_mark(batch_id, request.id), created))


def raw_lines(path: Path) -> Iterator[bytes]:
    """The lines that are not blank, with their ends."""
    with path.open("rb") as file:
        yield from (line for line in file if not line.isspace())


def _answer(
    number: int, raw: bytes, shape: LineShape, batch_id: str, created: int, faults: LineFaults | None
) -> Answer:
    request = shape.read(raw)
    stamp = Stamp(_mark(batch_id, request.id or str(number)), created)
    try:
        if faults is not None and (why := faults.strike(number, raw, shape.tried(request))) is not None:
            return Answer(False, shape.unanswered(request, why, stamp))
        if FAIL_TRIGGER in raw:
            raise Refusal(400, None, "This line asked to fail.")
        return shape.answer(request, stamp)
    except Refusal as refusal:
        return Answer(False, shape.refused(request, refusal, stamp))


def _mark(batch_id: str, custom_id: str) -> str:
    return hashlib.sha256(f"{batch_id} {custom_id}".encode()).hexdigest()[:24]
