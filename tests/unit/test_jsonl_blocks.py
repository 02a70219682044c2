"""The blocks of a file's report: together the whole file, each with its sums."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold.jsonl.check import Check
from manifold.jsonl.custom_ids import custom_id_checksum
from manifold.jsonl.position import BLOCK_BYTES, BLOCK_REQUESTS
from manifold.jsonl.report import Block, Report


def line(custom_id: str, **members: Any) -> bytes:
    body = {"model": "gpt", "messages": [], **members}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/x", "body": body}).encode() + b"\n"


def check(data: bytes, size: int = 1 << 20) -> Report:
    checker = Check()
    for start in range(0, len(data), size):
        checker.feed(data[start : start + size])
    return checker.finish()


def custom_ids(data: bytes, block: Block) -> list[str]:
    """The ids of the requests in a block's bytes."""
    lines = data[block.start : block.start + block.bytes].splitlines()
    return [json.loads(line)["custom_id"] for line in lines if line.strip()]


def assert_whole(data: bytes, blocks: list[Block]) -> None:
    """The blocks are the file from its first request on, one after the other, and have what they say."""
    number, end = 0, blocks[0].start
    for block in blocks:
        assert (block.first, block.start) == (number, end)
        assert len(custom_ids(data, block)) == block.requests
        number += block.requests
        end += block.bytes
    assert end == len(data)


def test_a_block_has_a_thousand_requests() -> None:
    data = b"".join(line(str(number), max_tokens=2) for number in range(2500))
    blocks = check(data).blocks()
    assert_whole(data, blocks)
    assert [block.requests for block in blocks] == [1000, 1000, 500]
    assert [block.output_tokens for block in blocks] == [2000, 2000, 1000]


@pytest.mark.parametrize("length", [5_000, 100_000, 2_000_000, 5_000_000])
def test_a_block_of_long_requests_ends_once_it_has_four_mebibytes(length: int) -> None:
    count = 12_000_000 // length
    data = b"".join(line(str(number), user="x" * length) for number in range(count))
    blocks = check(data).blocks()
    assert_whole(data, blocks)
    size = len(line("0", user="x" * length))
    assert all(BLOCK_BYTES <= block.bytes < BLOCK_BYTES + size + count for block in blocks[:-1])
    assert len(blocks) > 1


def test_byte_order_mark_and_blank_lines_are_passed() -> None:
    data = b"\xef\xbb\xbf\n" + b"\r\n".join(line(str(number)) for number in range(1001)) + b"\n \n"
    blocks = check(data, 999).blocks()
    assert_whole(data, blocks)
    assert (blocks[0].start, [block.requests for block in blocks]) == (4, [1000, 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(), st.integers(1, 1 << 20))
def test_blocks_do_not_depend_on_layouts_and_chunks(seed: int, size: int) -> None:
    """Lines are proved many at once or parsed one by one. Both kinds are in the same blocks."""
    random = Random(seed)
    data = bytearray()
    for number in range(random.randrange(1, 2500)):
        text = "x" * random.choice([1, 10, 100, 20_000])
        members = {"user": text, "max_tokens": 1}
        one = line(str(number), **members)
        data += (
            one
            if random.randrange(50)
            else one.replace(b'"method": "POST", ', b"").replace(b"}}", b'}, "method": "POST"}')
        )
        data += b"\n" * random.choice([0, 0, 0, 1])
    whole = bytes(data)
    report = check(whole, size)
    assert report == check(whole, len(whole))
    blocks = report.blocks()
    assert_whole(whole, blocks)
    assert all(block.requests == BLOCK_REQUESTS or block.bytes >= BLOCK_BYTES for block in blocks[:-1])
    assert [block.output_tokens for block in blocks] == [block.requests for block in blocks]
    assert [block.checksum for block in blocks] == [custom_id_checksum(custom_ids(whole, block)) for block in blocks]


def test_a_report_of_before_blocks_has_them() -> None:
    data = b"".join(line(str(number)) for number in range(2500))
    stored = check(data).to_json()
    del stored["firsts"], stored["checksums"]
    blocks = Report.from_json(stored).blocks()
    assert_whole(data, blocks)
    assert [block.requests for block in blocks] == [1000, 1000, 500]
    assert {block.checksum for block in blocks} == {None}
    del stored["input_tokens"], stored["output_tokens"]
    earlier = Report.from_json(stored).blocks()
    assert {(block.input_tokens, block.output_tokens) for block in earlier} == {(None, None)}
    assert [block.start for block in earlier] == [block.start for block in blocks]


def test_blocks_survive_storage() -> None:
    report = check(b"".join(line(str(number), user="x" * 20_000) for number in range(500)))
    assert Report.from_json(json.loads(json.dumps(report.to_json()))).blocks() == report.blocks()


def test_a_file_with_errors_has_no_blocks() -> None:
    with pytest.raises(ValueError, match="errors"):
        check(b"bad").blocks()


def test_the_checksum_of_ids_is_the_same_in_whatever_order() -> None:
    ids = ["a", "b", "Über", "x" * 100]
    checksum = custom_id_checksum(ids)
    assert checksum == custom_id_checksum(reversed(ids)) == custom_id_checksum(ids[2:]) + custom_id_checksum(ids[:2])
    assert checksum != custom_id_checksum(["a", "b", "Uber", "x" * 100])
    assert custom_id_checksum(["123456789"]) == 0xCBF43926  # the check value of CRC-32
