"""What of a job's results S3 has."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from files.transfers.fetched_results import FetchedResults, store
from manifold.errors import Unavailable
from manifold.storage import Storage


class Bucket:
    """Takes a file, or does not answer."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        async for _ in chunks:
            pass
        if not self._answers:
            raise Unavailable("The file storage did not answer.")


async def lines(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b'{"custom_id":"%d","response":{"status_code":200,"body":{}},"error":null}\n' % number


async def is_stored(least: int) -> bool:
    scan = FetchedResults().new_scan("output", "group")
    await store(cast(Storage, Bucket(answers=True)), "files/file-1", scan, least, lines(2))
    return scan.is_stored


async def test_a_file_is_stored_unless_it_has_fewer_results_than_the_copy() -> None:
    assert [await is_stored(least) for least in (1, 2, 3)] == [True, True, False]


async def test_a_file_that_the_storage_refuses_is_not() -> None:
    scan = FetchedResults().new_scan("output", "group")
    bucket = cast(Storage, Bucket(answers=False))
    with pytest.raises(Unavailable):
        await store(bucket, "files/file-1", scan, 1, lines(2))
    assert (scan.lines, scan.is_stored) == (2, False)
