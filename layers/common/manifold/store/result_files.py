"""The files of a batch's results, as its owner gets them, and the objects of results that nobody gets."""

from collections.abc import Iterable
from typing import Literal

from manifold.store.batches import BatchRow
from manifold.store.files import Files, NewFile

PURPOSE = "batch_output"


def result_file(batch: BatchRow, file_id: str, kind: Literal["output", "error"], size: int = 0) -> NewFile:
    """The batch's output or error file, of `size` bytes."""
    return NewFile(
        id=file_id,
        purpose=PURPOSE,
        filename=f"{batch.id}_{kind}.jsonl",
        bytes=size,
        groups=batch.groups,
        expires_after=batch.output_expires_after,
    )


async def purge_results(files: Files, batch: BatchRow, file_ids: Iterable[str]) -> None:
    """Have objects purged, as far as they are there, whose files no client has ever seen: as files that are deleted."""
    for file_id in file_ids:
        await files.reserve(NewFile(file_id, PURPOSE, f"{batch.id}.jsonl", 0, batch.groups), batch.owner, 0)
