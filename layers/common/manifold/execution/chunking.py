"""How the lines of a job are cut into chunks: along the blocks of their file, so that each is little to read. Pure."""

from collections.abc import Iterator, Sequence
from math import ceil

from manifold import ids
from manifold.jsonl.report import Block
from manifold.selection import Selection
from manifold.store.chunks import NewChunk

FEWEST_REQUESTS = 64
"""The fewest requests that a chunk is made for: as many as its worker calls at once."""


def chunks_of(file_id: str, blocks: Sequence[Block], selection: Selection, workers: int) -> list[NewChunk]:
    """The chunks of the selected lines of a file with these blocks: each a block or a part of one.

    A block has 1,000 requests or 4 MiB at most. It is cut into parts where there are more `workers` than blocks.
    """
    first = selection.first
    count = selection.requests
    end = sum(block.requests for block in blocks) if count is None else first + count
    most = max(FEWEST_REQUESTS, ceil((end - first) / workers))
    found = (part for block in blocks for part in _parts(block, first, end, most))
    return [
        NewChunk(ids.new("chunk"), number, file_id, block.start, block.bytes, start - block.first, stop - start)
        for number, (block, start, stop) in enumerate(found)
    ]


def _parts(block: Block, first: int, end: int, most: int) -> Iterator[tuple[Block, int, int]]:
    """The parts of a block that are selected, of about the same size: each with its first request and its end."""
    start, stop = max(first, block.first), min(end, block.first + block.requests)
    if start >= stop:
        return
    parts = ceil((stop - start) / most)
    for number in range(parts):
        yield block, start + (stop - start) * number // parts, start + (stop - start) * (number + 1) // parts
