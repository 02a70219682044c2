"""Which lines share a `custom_id`, without keeping the ids."""

from array import array
from collections.abc import Iterable, Iterator

_PART = 65_536


class CustomIds:
    """Remembers 12 bytes a request: a 64-bit hash of its id, and the number of its line.

    A million take 12 MB, and up to 10 MB more while `duplicates` looks for equal hashes, part by part. Python's string
    hash is keyed at random, so nobody can make ids that collide; among a million different ids there are two that do
    with a probability of 3 in 100 million.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._lines = array("I")

    def extend(self, custom_ids: Iterable[str], lines: Iterable[int]) -> None:
        """Adds the ids of these lines, which come after all those before."""
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
