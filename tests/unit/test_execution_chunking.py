"""How a job is cut into chunks."""

import pytest

from manifold.execution.chunking import chunks_of
from manifold.jsonl.check import Check
from manifold.selection import Selection
from tests.support.provider import chat_lines


@pytest.mark.parametrize(
    ("selection", "workers", "expected"),
    [
        (Selection.all(), 1, [(0, 1000), (0, 1000), (0, 500)]),
        (Selection.range(900, 300), 1, [(900, 100), (0, 200)]),
        (Selection.range(10, 5), 1, [(10, 5)]),
        (Selection.all(), 5, [(0, 500), (500, 500), (0, 500), (500, 500), (0, 500)]),
        (Selection.range(0, 100), 32, [(0, 50), (50, 50)]),
    ],
)
def test_chunks_follow_the_blocks(selection: Selection, workers: int, expected: list[tuple[int, int]]) -> None:
    check = Check()
    check.feed(chat_lines("model", 2500))
    blocks = check.finish().blocks()
    chunks = chunks_of("file-a", blocks, selection, workers)
    assert [(one.skip, one.requests) for one in chunks] == expected
    assert [one.number for one in chunks] == list(range(len(chunks)))
    starts = {block.start: block.bytes for block in blocks}
    assert all(starts[one.start] == one.bytes for one in chunks)
    assert len({one.id for one in chunks}) == len(chunks)
