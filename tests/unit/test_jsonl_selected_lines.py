"""A range of a file's requests is read from a part of its bytes, however the file is written and its bytes are cut."""

from collections.abc import AsyncIterator, Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold.jsonl.check import Check
from manifold.jsonl.report import Block
from manifold.jsonl.selected_lines import ByteRange, byte_range, selected

BOM = b"\xef\xbb\xbf"


async def chunks_of(data: bytes, cuts: Sequence[int]) -> AsyncIterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        yield data[start:end]


async def read(data: bytes, blocks: Sequence[Block], first: int, requests: int, cuts: Sequence[int] = ()) -> bytes:
    """The selected lines of the file, of which only the byte range is read."""
    part = byte_range(blocks, first, requests)
    chunks = chunks_of(data[part.start : part.start + part.bytes], cuts)
    return b"".join([piece async for piece in selected(chunks, part.skip, requests)])


def blocks_of(lines: Sequence[bytes], firsts: Sequence[int], offset: int) -> list[Block]:
    """Blocks that begin with the requests of these numbers; blank lines are no requests. The file has a beginning."""
    starts = [
        start for start, line in zip(accumulate(map(len, lines), initial=offset), lines, strict=False) if line.strip()
    ]
    ends = [*firsts[1:], len(starts)]
    stops = [*(starts[first] for first in firsts[1:]), offset + sum(map(len, lines))]
    return [
        Block(first, end - first, starts[first], stop - starts[first], None, None, None)
        for first, end, stop in zip(firsts, ends, stops, strict=True)
    ]


REQUEST = st.binary(min_size=1, max_size=8).map(
    lambda text: b"{" + text.replace(b"\n", b"n").replace(b"\r", b"r") + b"}"
)
BLANK = st.sampled_from([b"\n", b"\r\n", b"  \n", b"\t\r\n", b" \r\r\n"])
LINE = st.tuples(REQUEST, st.sampled_from([b"\n", b"\r\n", b" \n"])).map(b"".join) | BLANK


@settings(deadline=None)
@given(st.data())
async def test_the_lines_are_those_of_the_file(data: st.DataObject) -> None:
    lines = [b"{}\n", *data.draw(st.lists(LINE, max_size=30))]
    if data.draw(st.booleans(), "no last newline"):
        lines.append(data.draw(REQUEST | st.just(b"  ")))
    start = data.draw(st.sampled_from([b"", BOM, BOM + b"\r\n", b"\n \n"]))
    requests = [line for line in lines if line.strip()]
    firsts = [0, *sorted(data.draw(st.sets(st.integers(1, max(1, len(requests) - 1)), max_size=len(requests) - 1)))]
    blocks = blocks_of(lines, firsts, len(start))
    first = data.draw(st.integers(0, len(requests) - 1))
    number = data.draw(st.integers(1, len(requests) - first))
    cuts = data.draw(st.lists(st.integers(0, 1000), max_size=10))

    found = await read(start + b"".join(lines), blocks, first, number, cuts)

    assert found == b"".join(requests[first : first + number])


LINES = [
    b'{"custom_id": "%d", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}\r\n'
    % n
    for n in range(2_500)
]
FILE = BOM + b"\n" + b"".join(LINES[:1_500]) + b"\r\n \n" + b"".join(LINES[1_500:])[:-2]


@pytest.mark.parametrize(
    ("first", "requests"), [(0, 2_500), (0, 1), (999, 2), (1_000, 1_000), (1_499, 2), (2_499, 1), (2_000, 500)]
)
async def test_the_blocks_are_those_of_the_report(first: int, requests: int) -> None:
    report = Check.whole(FILE)
    assert report.error_count == 0
    found = await read(FILE, report.blocks(), first, requests, range(0, 300_000, 65_536))
    assert found == b"".join(LINES[first : first + requests])[: -2 if first + requests == 2_500 else None]


def test_only_the_blocks_of_the_range_are_read() -> None:
    blocks = Check.whole(FILE).blocks()
    second, third = blocks[1:]
    assert byte_range(blocks, 1_000, 1_000) == ByteRange(second.start, second.bytes, 0)
    assert byte_range(blocks, 1_999, 2) == ByteRange(second.start, second.bytes + third.bytes, 999)
    assert second.start + second.bytes == third.start


@pytest.mark.parametrize(("first", "requests"), [(-1, 1), (0, 0), (0, 2_501), (2_500, 1)])
def test_requests_that_the_file_lacks_are_an_error(first: int, requests: int) -> None:
    with pytest.raises(ValueError, match="the file has 2500 requests"):
        byte_range(Check.whole(FILE).blocks(), first, requests)


def test_a_file_without_requests_has_no_range() -> None:
    with pytest.raises(ValueError, match="the file has 0 requests"):
        byte_range([], 0, 1)


async def test_an_object_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(ValueError, match="ends 2 requests before"):
        [piece async for piece in selected(chunks_of(b"{}\n{}\n", []), 1, 3)]


async def test_a_line_that_is_too_long_is_an_error() -> None:
    line = b"x" * (33 * 1024 * 1024) + b"\n"
    with pytest.raises(ValueError, match="too long"):
        [piece async for piece in selected(chunks_of(line, []), 0, 1)]
