"""What is counted of a result file as it streams by."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files import tally as tally_module
from files.tally import Tally

CHAT = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
RESPONSES = {
    "input_tokens": 20,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens_details": {"reasoning_tokens": 1},
}
EMBEDDINGS = {"prompt_tokens": 8, "total_tokens": 8}


def line(usage: dict[str, Any] | None = None, status: int = 200, error: object = None) -> bytes:
    response = None if error else {"status_code": status, "request_id": "r", "body": {"usage": usage} if usage else {}}
    return json.dumps({"id": "batch_req_1", "custom_id": "a", "response": response, "error": error}).encode()


async def tallied(*chunks: bytes) -> Tally:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    tally = Tally()
    passed = [chunk async for chunk in tally.through(source())]
    assert passed == list(chunks)
    return tally


def tokens(tally: Tally) -> tuple[int, int, int, int]:
    return tally.input_tokens, tally.cached_tokens, tally.output_tokens, tally.reasoning_tokens


async def test_tokens_are_summed_in_every_apis_words() -> None:
    tally = await tallied(b"\n".join((line(CHAT), line(RESPONSES), line(EMBEDDINGS))) + b"\n")

    assert tokens(tally) == (38, 6, 12, 4)
    assert (tally.lines, tally.failed) == (3, 0)


async def test_a_line_failed_by_its_error_or_by_its_status() -> None:
    lines = (line(CHAT), line(status=400), line(error={"code": "batch_expired", "message": "late"}), b"garbage", b"[1]")
    tally = await tallied(b"\n".join(lines))

    assert (tally.lines, tally.failed) == (5, 4)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n \n\n"])
async def test_blank_lines_are_none(content: bytes) -> None:
    tally = await tallied(content)

    assert (tally.lines, tally.bytes) == (0, len(content))


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "10"}, {"prompt_tokens": None}, {"prompt_tokens": True}, {"prompt_tokens_details": 3}]
)
async def test_tokens_that_are_no_numbers_count_nothing(usage: dict[str, Any]) -> None:
    assert tokens(await tallied(line(usage))) == (0, 0, 0, 0)


async def test_a_line_too_long_to_hold_is_counted_and_those_after_it_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "LONGEST_LINE", 2_000)

    tally = await tallied(b"x" * 1_500, b"x" * 1_500, b"x" * 10 + b"\n" + line(CHAT))

    assert (tally.lines, tally.failed, tally.input_tokens) == (2, 0, 10)


@given(st.lists(st.integers(0, 400), max_size=12))
async def test_where_chunks_are_cut_makes_no_difference(cuts: list[int]) -> None:
    content = line(CHAT) + b"\r\n\n" + line(status=500) + b"\n" + line(RESPONSES)
    edges = [0, *sorted(cuts), len(content)]
    whole = await tallied(content)
    cut = await tallied(*(content[start:end] for start, end in pairwise(edges) if start <= end))

    assert (cut.lines, cut.failed, cut.bytes, tokens(cut)) == (whole.lines, whole.failed, whole.bytes, tokens(whole))
