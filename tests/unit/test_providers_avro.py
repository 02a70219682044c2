"""Avro container files, written by fastavro, become JSON Lines block by block."""

import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import fastavro
import pytest

from manifold.errors import ProviderUnclear
from manifold.providers import avro

SCHEMA = {
    "type": "record",
    "name": "result",
    "fields": [
        {"name": "custom_id", "type": "string"},
        {"name": "error", "type": ["null", "string"], "default": None},
        {
            "name": "body",
            "type": [
                "null",
                {
                    "type": "record",
                    "name": "answer",
                    "fields": [
                        {"name": "vectors", "type": {"type": "array", "items": {"type": "array", "items": "double"}}},
                        {"name": "counts", "type": {"type": "map", "values": "long"}},
                        {"name": "signature", "type": ["null", "bytes"], "default": None},
                    ],
                },
            ],
        },
    ],
}
RECORDS: list[dict[str, Any]] = [
    {"custom_id": "a", "error": "", "body": {"vectors": [[0.5, -1.0]], "counts": {"input": -7}, "signature": b"x"}},
    {"custom_id": "b ü", "error": "No.", "body": None},
    {"custom_id": "c", "error": None, "body": {"vectors": [], "counts": {}, "signature": None}},
]
EXPECTED = [RECORDS[0] | {"body": RECORDS[0]["body"] | {"signature": "x"}}, *RECORDS[1:]]


def written(records: list[Any], schema: Any = SCHEMA, codec: str = "null", interval: int = 16_000) -> bytes:
    file = BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), records, codec=codec, sync_interval=interval)
    return file.getvalue()


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(content: bytes, size: int = 1000) -> list[Any]:
    chunks = [chunk async for chunk in avro.json_lines(pieces(content, size))]
    return [json.loads(line) for chunk in chunks for line in chunk.splitlines()]


@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_records_are_lines(codec: str, size: int) -> None:
    assert await read(written(RECORDS, codec=codec), size) == EXPECTED


async def test_each_block_is_given_out_as_it_arrives() -> None:
    content = written(RECORDS, interval=1)
    blocks = [chunk async for chunk in avro.json_lines(pieces(content, 50))]
    assert len(blocks) == len(RECORDS)


async def test_a_file_without_records_has_no_lines() -> None:
    assert await read(written([])) == []


async def test_a_record_that_is_a_text_is_the_json_of_one() -> None:
    texts = ['{"custom_id": "a",\n "error": ""}', '{"custom_id":"b"}']
    assert await read(written(texts, "string")) == [json.loads(text) for text in texts]


EVERY_TYPE = {
    "type": "record",
    "name": "every",
    "namespace": "test",
    "fields": [
        {"name": "yes", "type": "boolean"},
        {"name": "small", "type": "int"},
        {"name": "large", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "single", "type": "float"},
        {"name": "singles", "type": {"type": "array", "items": "float"}},
        {"name": "state", "type": {"type": "enum", "name": "state", "symbols": ["on", "off"]}},
        {"name": "before", "type": "state"},
        {"name": "mark", "type": {"type": "fixed", "name": "mark", "size": 3}},
        {"name": "child", "type": ["null", "test.every"], "default": None},
    ],
}
EVERY_VALUE: dict[str, Any] = {
    "yes": True, "small": -1, "large": 2**53, "single": 0.5, "singles": [0.5, -2.0], "state": "off", "before": "on",
    "mark": b"abc", "child": None,
}  # fmt: skip


async def test_every_type() -> None:
    expected = EVERY_VALUE | {"mark": "abc"}
    record = EVERY_VALUE | {"child": EVERY_VALUE}
    assert await read(written([record], EVERY_TYPE)) == [expected | {"child": expected}]


async def test_a_large_record() -> None:
    vectors = [[number / 8 for number in range(1536)] for _ in range(20)]
    record: dict[str, Any] = {
        "custom_id": "a",
        "error": None,
        "body": {"vectors": vectors, "counts": {}, "signature": None},
    }
    assert await read(written([record])) == [record]


@pytest.mark.parametrize("kept", [0, 3, 4, 40, -1, -17])
async def test_a_file_that_breaks_off_is_unclear(kept: int) -> None:
    with pytest.raises(ProviderUnclear):
        await read(written(RECORDS)[:kept])


@pytest.mark.parametrize(
    "content",
    [
        b'{"custom_id":"a"}\n' * 10,
        written(RECORDS)[:-1] + b"?",
        written(RECORDS, codec="bzip2"),
        written(RECORDS).replace(b'"string"', b'"strong"'),
        written(RECORDS).replace(b"avro.schema", b"avro.scheme"),
        written(["{"], "string"),
    ],
    ids=["no Avro", "sync", "codec", "type", "no schema", "no JSON"],
)
async def test_a_file_that_cannot_be_read_is_unclear(content: bytes) -> None:
    with pytest.raises(ProviderUnclear):
        await read(content)


async def test_a_block_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "MAX_BLOCK", 1000)
    bomb = [{"custom_id": "a" * 2000, "error": None, "body": None}]
    for codec in ("null", "deflate"):
        with pytest.raises(ProviderUnclear):
            await read(written(bomb, codec=codec))
    monkeypatch.setattr(avro, "MAX_RECORDS", 10)
    with pytest.raises(ProviderUnclear):
        await read(written([None] * 11, "null"))
