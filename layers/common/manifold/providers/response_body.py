"""Decompresses the body of an answer piece by piece, within bounds of size and time.

The decoders of the HTTP libraries are not used: they decode a whole chunk at once, which may become a thousand times as
large. https://www.rfc-editor.org/rfc/rfc9110#section-8.4
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

from manifold.errors import ANSWER_TOO_LARGE, ProviderUnclear

ACCEPT_ENCODING = "gzip, deflate"
"""Sent with every request: the encodings that are decoded here."""
PIECE_BYTES = 64 * 1024
"""The most that one step of decoding returns."""
ERROR_BYTES = 64 * 1024
"""The most that is read of an error's body."""
MAX_MEMBERS = 1024
"""The most gzip members of one body: each may be 20 bytes that decode to nothing."""
MEMBER = b"\x1f"
"""The first byte of each member."""
PACE_SECONDS, MIN_BYTES_PER_SECOND = 60.0, 100
"""After so many seconds of waiting, a body that is slower than this is given up."""
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class ByteBudget:
    """The bytes that all bodies which one client is reading may hold together."""

    def __init__(self, count: int) -> None:
        self._left = count

    def take(self, count: int) -> None:
        """Reserve `count` bytes. `ProviderUnclear` if fewer are left."""
        if count > self._left:
            raise ProviderUnclear("more bytes than the gateway holds at once")
        self._left -= count

    def release(self, count: int) -> None:
        """Return bytes that were taken."""
        self._left += count


class Inflater:
    """Decompresses gzip or deflate, a piece at a time.

    Several gzip members may follow each other. Any other bytes after the end are ignored, as curl and browsers do.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decoder: zlib._Decompress | None = None
        self._members = 0
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded pieces of `data`. `zlib.error` if it has not this encoding."""
        while data:
            if self._decoder is not None and self._decoder.eof and not self._is_next_member(data):
                return
            if self._decoder is None or self._decoder.eof:
                self._decoder = self._next(data)
            piece = self._decoder.decompress(data, PIECE_BYTES)
            while piece:
                yield piece
                piece = self._decoder.decompress(self._decoder.unconsumed_tail, PIECE_BYTES)
            data = self._decoder.unused_data

    def _is_next_member(self, after: bytes) -> bool:
        """Whether the bytes after the end of a member are another one."""
        self._over = self._over or not ("gzip" in self._encoding and after.startswith(MEMBER))
        return not self._over

    def close(self) -> None:
        """Check that the body is complete; `zlib.error` if not."""
        if self._decoder is not None and not self._decoder.eof:
            raise zlib.error("the body ends too early")

    def _next(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise zlib.error("too many members")
        # "deflate" is zlib's format, but some servers omit its header.
        bare = self._encoding == "deflate" and data[0] & 0x0F != zlib.DEFLATED
        return zlib.decompressobj(-zlib.MAX_WBITS if bare else WINDOWS[self._encoding])


async def decoded(raw: AsyncIterator[bytes], encoding: str, max_bytes: int) -> AsyncIterator[bytes]:
    """The body decoded by its `Content-Encoding`. `ProviderUnclear` if it cannot be, or has more than `max_bytes`."""
    count = 0
    try:
        async for piece in _inflated(raw, encoding.strip().lower()):
            count += len(piece)
            if count > max_bytes:
                raise ProviderUnclear(f"an answer of more than {max_bytes} bytes", code=ANSWER_TOO_LARGE)
            yield piece
    except zlib.error as error:
        raise ProviderUnclear("an answer that cannot be decoded") from error


async def read_all(pieces: AsyncIterator[bytes], budget: ByteBudget) -> bytes:
    """All pieces joined. The bytes count against the budget while they are read."""
    content = bytearray()
    try:
        async for piece in pieces:
            budget.take(len(piece))
            content += piece
        return bytes(content)
    finally:
        budget.release(len(content))
        content.clear()  # an error's traceback would keep it until the next garbage collection


async def read_error(raw: AsyncIterator[bytes], encoding: str) -> bytes:
    """An error's body, up to `ERROR_BYTES`. Raises nothing if it breaks off or cannot be decoded."""
    content = bytearray()
    try:
        async for piece in _inflated(raw, encoding.strip().lower()):
            content += piece
            if len(content) >= ERROR_BYTES:
                break
    except (zlib.error, ProviderUnclear):
        pass
    return bytes(content[:ERROR_BYTES])


async def paced(raw: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The pieces that arrive within `seconds`; then `TimeoutError`. `ProviderUnclear` if they come too slowly.

    The time that the reader itself takes for a piece is not counted as the provider's.
    """
    clock = asyncio.get_running_loop()
    end, waited, count = clock.time() + seconds, 0.0, 0
    while True:
        started = clock.time()
        async with asyncio.timeout_at(end):
            piece = await anext(raw, None)
        if piece is None:
            return
        waited, count = waited + clock.time() - started, count + len(piece)
        if waited > PACE_SECONDS and count < waited * MIN_BYTES_PER_SECOND:
            raise ProviderUnclear("an answer that comes too slowly")
        yield piece


async def _inflated(raw: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    if encoding in ("", "identity"):
        async for data in raw:
            yield data
        return
    if encoding not in WINDOWS:
        raise ProviderUnclear("an encoding that was not asked for")
    inflater = Inflater(encoding)
    async for data in raw:
        for piece in inflater.feed(data):
            yield piece
    inflater.close()
