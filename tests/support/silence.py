"""A queue and a bucket in place of AWS, for tests of who may do what."""

from collections.abc import Sequence

from manifold.queue import Message, Queue
from manifold.storage import Piece, Storage


class Silent(Queue):
    """A queue that drops its messages."""

    def __init__(self) -> None:
        pass

    async def send(self, messages: Sequence[Message], *, delay: float = 0) -> list[Message]:
        return []


class OneByte(Storage):
    """A bucket with one byte in every file."""

    def __init__(self) -> None:
        pass

    async def fetch(self, piece: Piece) -> bytes:
        return b"x"
