"""Which lines share a `custom_id`, and whether two files have the same ones, without keeping the ids."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

_PART = 65_536


def custom_id_checksum(custom_ids: Iterable[str]) -> int:
    """The sum of the CRC-32 of each id: the same in every order and process; those of two sets are added.

    Files with as many ids, each once, have the same ids if they have the same checksum. Others have it by a chance of
    about one in 2^32, but could be made to have it.
    """
    return sum(map(crc32, map(str.encode, custom_ids)))


class CustomIds:
    """Remembers 12 bytes a request: a 64-bit hash of its id, and the number of its line.

    A million take 12 MB, and up to 10 MB more while `duplicates` looks for equal hashes, part by part. Python's string
    hash is keyed at random, so nobody can make ids that collide; among a million different ids there are two that do
    with a probability of 3 in 100 million.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._lines = array("I")
        self.checksums: list[int] = []
        """Of each block."""

    def extend(self, custom_ids: Sequence[str], lines: Iterable[int], block: int) -> None:
        """Adds the ids of these lines of a block, which come after all those before."""
        while len(self.checksums) <= block:
            self.checksums.append(0)
        self.checksums[block] += custom_id_checksum(custom_ids)
        self._hashes.fromlist(list(map(hash, custom_ids)))
        self._lines.extend(lines)

    def duplicates(self) -> Iterator[tuple[int, int]]:
        """Each line whose id an earlier line has, with the first that has it, in the file's order."""
        repeated = self._repeated()
        if not repeated:
            return
        first: dict[int, int] = {}
        for key, line in zip(self._hashes, self._lines, strict=True):
            if key in repeated and first.setdefault(key, line) != line:
                yield line, first[key]

    def _repeated(self) -> set[int]:
        parts = len(self._hashes) // _PART + 1
        repeated: set[int] = set()
        for part in range(parts):
            hashes = self._hashes if parts == 1 else [key for key in self._hashes if key % parts == part]
            if len(set(hashes)) < len(hashes):
                repeated |= _repeated(hashes)
        return repeated


def _repeated(hashes: Iterable[int]) -> set[int]:
    seen: set[int] = set()
    repeated: set[int] = set()
    for key in hashes:
        (repeated if key in seen else seen).add(key)
    return repeated
