"""Answers with a file, or a range of it, as S3 and Google Cloud Storage give it.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
https://cloud.google.com/storage/docs/json_api/v1/parameters#range
"""

import re
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import StreamingResponse

from local.provider.object_store import read_range
from local.provider.refusal import Refusal

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def ranged(
    path: Path, size: int, asked: str | None, media_type: str, headers: Mapping[str, str], unsatisfiable: Refusal
) -> StreamingResponse:
    """The file, or the range that the header `Range` asks for. More than one range, or none that can be read, is
    answered with the whole file. Raises `unsatisfiable` for a range that begins behind the end."""
    given = {**headers, "accept-ranges": "bytes"}
    span = _span(asked, size)
    if span is None:
        given["content-length"] = str(size)
        return StreamingResponse(read_range(path, 0, size), 200, given, media_type)
    start, end = span
    if start >= size or end < start:
        raise unsatisfiable
    given |= {"content-range": f"bytes {start}-{end}/{size}", "content-length": str(end - start + 1)}
    return StreamingResponse(read_range(path, start, end - start + 1), 206, given, media_type)


def _span(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first and the last byte."""
    match = RANGE.fullmatch(asked or "")
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size - 1 if int(match[2]) else -1
    if match[2] and int(match[2]) < int(match[1]):
        return None
    return int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
