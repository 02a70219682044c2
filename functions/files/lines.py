"""The lines of a batch's input: checked once when they come, rewritten for each deployment when they go."""

from collections.abc import AsyncIterator
from dataclasses import replace
from heapq import merge
from itertools import islice

from manifold.jsonl import Check, LineError, Report, Rewrite
from manifold.jsonl.report import MAX_ERRORS


def checked(content: bytes) -> Report:
    """What the lines of a whole file are like."""
    check = Check()
    check.feed(content)
    return check.finish()


async def rewritten(chunks: AsyncIterator[bytes], model: str, report: Report) -> AsyncIterator[bytes]:
    """The same lines, whose report this is, with this model in them."""
    rewrite = Rewrite(model, report)
    async for chunk in chunks:
        if lines := rewrite.feed(chunk):
            yield lines
    if last := rewrite.finish():
        yield last


def without_group(report: Report, message: str) -> Report:
    """The report of a file none of whose lines can be run, because no group that may run it serves their model."""
    numbers = islice(merge(*(use.lines for use in report.urls.values())), MAX_ERRORS)
    found = [LineError(line, "model_not_found", message, "body.model") for line in numbers]
    errors = sorted([*report.errors, *found], key=lambda error: error.line or 0)[:MAX_ERRORS]
    count = sum(use.count for use in report.urls.values())
    return replace(report, errors=tuple(errors), error_count=report.error_count + count)
