"""Where the results of a chunk are kept, and which of them count."""

import asyncio
from collections.abc import Mapping

import pytest

from batches.execution import result_writer
from batches.execution.result_writer import ResultWriter
from manifold.errors import Unavailable
from manifold.execution import parts as execution_parts
from manifold.execution.parts import KINDS, Found, Kind, Parts
from manifold.store.chunks import ChunkProgress
from tests.support.memory_storage import MemoryStorage

Written = Mapping[Kind, list[int]]
"""The requests of each kind that an attempt wrote, each in an object of its own."""


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


def parts_in(storage: MemoryStorage) -> Parts:
    return Parts(storage, "file-a", "job_a", "chunk_a")


async def write(parts: Parts, *attempts: Written) -> None:
    for attempt, written in enumerate(attempts, start=1):
        for kind, requests in written.items():
            for number, request in enumerate(requests):
                await parts.write(attempt, kind, number, line(parts, request, attempt))


def line(parts: Parts, request: int, attempt: int) -> bytes:
    return b'{"id":"%s","attempt":%d}\n' % (parts.request_id(request).encode(), attempt)


async def read(parts: Parts, counts: list[list[int]]) -> dict[Kind, list[bytes]]:
    return {kind: b"".join([lines async for lines in parts.lines(kind, counts)]).splitlines(True) for kind in KINDS}


@pytest.mark.parametrize(
    ("attempts", "outputs", "errors"),
    [
        ([{"output": [0, 1], "error": [2]}], {0: 1, 1: 1}, {2: 1}),
        ([{"output": [0, 1]}, {"output": [1, 2]}], {0: 1, 1: 1, 2: 2}, {}),
        ([{"output": [0]}, {"error": [0, 1]}], {0: 1}, {1: 2}),
        ([{"error": [0]}, {"output": [0, 1]}], {1: 2}, {0: 1}),
        ([{"error": [0]}, {"output": [0]}], {}, {0: 1}),
        ([{"output": [0], "error": [1]}, {}, {"output": [1, 2], "error": [0, 3]}], {0: 1, 2: 3}, {1: 1, 3: 3}),
    ],
    ids=["one attempt", "answered twice", "answered, then failed", "failed, then answered", "nothing else", "three"],
)
async def test_each_request_is_in_the_file_in_which_it_is_counted(
    storage: MemoryStorage, attempts: list[Written], outputs: dict[int, int], errors: dict[int, int]
) -> None:
    """An attempt that had lost its lease without knowing it has answered what another one failed."""
    parts = parts_in(storage)
    await write(parts, *attempts)
    writer = ResultWriter(parts, len(attempts) + 1)
    writer.resume(await parts.found(len(attempts)))
    progress = writer.progress
    assert progress is not None
    lines = await read(parts, progress.parts)
    assert lines == {
        "output": [line(parts, request, attempt) for request, attempt in outputs.items()],
        "error": [line(parts, request, attempt) for request, attempt in errors.items()],
    }
    assert (progress.completed, progress.failed) == (len(outputs), len(errors))


async def test_a_kind_alone_is_read_once(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, keys, get = parts_in(storage), list[str](), storage.get

    async def counted(key: str) -> bytes | None:
        keys.append(key)
        return await get(key)

    monkeypatch.setattr(storage, "get", counted)
    await write(parts, {"output": [0, 1]}, {"output": [2]})
    await read(parts, [[2, 0], [1, 0], [0, 0]])
    assert len(keys) == 3


async def test_a_missing_object_is_told(storage: MemoryStorage) -> None:
    parts = parts_in(storage)
    await write(parts, {"output": [0]})
    with pytest.raises(Unavailable):
        await read(parts, [[2, 0]])


@pytest.mark.parametrize(
    ("sizes", "objects"),
    [([3, 3, 3], [6, 3]), ([20, 1, 20], [20, 1, 20]), ([1] * 17, [8, 8, 1]), ([8], [8])],
    ids=["few", "larger than an object", "many", "one"],
)
async def test_no_object_is_larger_than_need_be(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, sizes: list[int], objects: list[int]
) -> None:
    monkeypatch.setattr(result_writer, "OBJECT_BYTES", 8)
    writer = ResultWriter(parts_in(storage), 1)
    writer.resume(Found())
    for size in sizes:
        writer.add("output", b"x" * size)
    await writer.write()
    assert [len(content) for content in storage.objects.values()] == objects
    assert writer.progress == ChunkProgress(len(sizes), 0, [[len(objects), 0]])


@pytest.mark.parametrize(("size", "at_once"), [(1000, 8), (12_000, 2), (60_000, 1)])
async def test_few_large_objects_are_read_at_once(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, size: int, at_once: int
) -> None:
    monkeypatch.setattr(execution_parts, "READ_AHEAD_BYTES", 32_000)
    parts, get = parts_in(storage), storage.get
    reading, most = 0, 0

    async def counted(key: str) -> bytes | None:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0)
        reading -= 1
        return await get(key)

    monkeypatch.setattr(storage, "get", counted)
    for number in range(20):
        await parts.write(1, "output", number, line(parts, number, 1)[:-1].ljust(size - 1) + b"\n")
    assert len((await read(parts, [[20, 0]]))["output"]) == 20
    assert most == at_once
