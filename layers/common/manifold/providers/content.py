"""The body of a request that is streamed, of a length that is known before its first byte."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from manifold.providers import Input

JSON_LINES = "application/jsonl"


@dataclass(frozen=True, slots=True)
class Content:
    """A body: `chunks` opens its bytes, from the start at each call."""

    size: int
    """In bytes."""
    chunks: Callable[[], AsyncIterator[bytes]]
    type: str
    """Its media type."""

    async def exact(self) -> AsyncIterator[bytes]:
        """The bytes. `ValueError` if they are not as many as `size`: our own fault, not the provider's."""
        sent = 0
        async for chunk in self.chunks():
            sent += len(chunk)
            if sent > self.size:
                break
            yield chunk
        if sent != self.size:
            raise ValueError(f"a body does not have its {self.size} bytes")


def of_input(data: Input, media_type: str = JSON_LINES) -> Content:
    """The lines of an input as they are."""
    return Content(data.bytes, data.lines, media_type)


def json_array(data: Input, before: bytes, after: bytes) -> Content:
    """JSON in which the lines of an input are the elements of an array: `before` ends in `[`, `after` begins with `]`.

    Each line ends with `\\n`, and no other byte of a line is one.
    """

    async def chunks() -> AsyncIterator[bytes]:
        held = before
        async for chunk in data.lines():
            if chunk:
                yield held
                held = chunk.replace(b"\n", b",")
        yield held[:-1] + after if held is not before else before + after

    size = len(before) + max(data.bytes - 1, 0) + len(after)
    return Content(size, chunks, "application/json")
