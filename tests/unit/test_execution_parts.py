"""Where the results of a chunk are kept, and which of them count."""

from collections.abc import Mapping

import pytest

from batches.execution.result_writer import ResultWriter
from manifold.errors import Unavailable
from manifold.execution.parts import KINDS, Kind, Parts
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
