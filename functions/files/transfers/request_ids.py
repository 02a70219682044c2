"""Sets of requests, told apart by hashes of their ids: a million take 16 MiB."""

from array import array
from zlib import crc32

FEWEST_SLOTS = 1024
"""Slots of an empty table, a power of two."""
_MARK = 1


class RequestIds:
    """A 63-bit hash of each request's id and a mark, in a table of 16 to 32 bytes a request.

    Python's string hash is keyed at random, so nobody can make ids that collide. Among a million different ids there
    are two that do with a probability of 6 in 100 million.
    """

    def __init__(self) -> None:
        self._table = _free(FEWEST_SLOTS)
        self._count = 0
        self.marked = 0
        """How many of them have the mark."""

    def __len__(self) -> int:
        return self._count

    def __contains__(self, custom_id: str) -> bool:
        return self._table[self._slot(_key(custom_id))] != 0

    def add(self, custom_id: str) -> bool:
        """Add the request with this id; whether it is a new one."""
        key = _key(custom_id)
        slot = self._slot(key)
        if self._table[slot]:
            return False
        self._table[slot] = key
        self._count += 1
        if 2 * self._count > len(self._table):
            self._grow()
        return True

    def mark(self, custom_id: str) -> bool:
        """Mark the request with this id; whether it is one of these and had no mark."""
        slot = self._slot(_key(custom_id))
        if not self._table[slot] or self._table[slot] & _MARK:
            return False
        self._table[slot] |= _MARK
        self.marked += 1
        return True

    def is_marked(self, custom_id: str) -> bool:
        """Whether it is one of these and has the mark."""
        return bool(self._table[self._slot(_key(custom_id))] & _MARK)

    def _slot(self, key: int) -> int:
        """Where the hash is, or may be put: the table has free slots (0), and the next one is taken if one is not."""
        table, mask = self._table, len(self._table) - 1
        slot = (key >> 1) & mask
        while (found := table[slot]) and found & ~_MARK != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        before = self._table
        self._table = _free(2 * len(before))
        for entry in before:
            if entry:
                self._table[self._slot(entry & ~_MARK)] = entry


class AnsweredRequests(RequestIds):
    """The requests that have a result. A mark says that the result is a failure that another attempt may change."""

    def __init__(self) -> None:
        super().__init__()
        self.checksum = 0
        """The `custom_id_checksum` of the requests."""
        self.repeated = 0
        """How many results answer a request that an earlier result answers."""
        self.unsent = RequestIds()
        """Those whose result says that they were not run."""

    def add(self, custom_id: str) -> bool:
        """Note a result of the request with this id; whether it is the first one."""
        if not super().add(custom_id):
            self.repeated += 1
            return False
        self.checksum += crc32(custom_id.encode(errors="surrogatepass"))
        return True


def _free(slots: int) -> "array[int]":
    return array("q", (0,)) * slots


def _key(custom_id: str) -> int:
    return hash(custom_id) & ~_MARK or 2
