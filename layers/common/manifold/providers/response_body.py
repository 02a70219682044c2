"""A provider's answer, decoded piece by piece and never past a bound, however it is compressed and however it comes.

Neither HTTP client decodes: their decoders give out as much as a chunk holds, and a chunk may hold a thousand times its
size. https://www.rfc-editor.org/rfc/rfc9110#section-8.4
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

from manifold.errors import ProviderUnclear

ACCEPT_ENCODING = "gzip, deflate"
"""What every request asks for: the encodings that are decoded here."""
PIECE_BYTES = 64 * 1024
"""The most that one step of decoding gives out."""
ERROR_BYTES = 64 * 1024
"""Of an error's body: what is beyond is left unread."""
MAX_MEMBERS = 1024
"""Of one gzip body: each may be 20 bytes that hold nothing."""
MEMBER = b"\x1f"
"""The first byte of each."""
PACE_SECONDS, MIN_BYTES_PER_SECOND = 60.0, 100
"""A body that has been waited for so long, and came more slowly than this, is given up."""
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class ByteBudget:
    """The bytes that the bodies under way may hold together, of one client."""

    def __init__(self, count: int) -> None:
        self._left = count

    def take(self, count: int) -> None:
        """`ProviderUnclear` if so many are no longer left."""
        if count > self._left:
            raise ProviderUnclear("more bytes than the gateway holds at once")
        self._left -= count

    def give_back(self, count: int) -> None:
        self._left += count


class Inflater:
    """Decodes what zlib reads, a piece at a time; gzip members may follow one another, and anything else is no more of
    the body, as curl and the browsers have it."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decoder: zlib._Decompress | None = None
        self._members = 0
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` decodes to; `zlib.error` if it is not of this encoding."""
        while data:
            if self._decoder is not None and self._decoder.eof and not self._goes_on(data):
                return
            if self._decoder is None or self._decoder.eof:
                self._decoder = self._next(data)
            piece = self._decoder.decompress(data, PIECE_BYTES)
            while piece:
                yield piece
                piece = self._decoder.decompress(self._decoder.unconsumed_tail, PIECE_BYTES)
            data = self._decoder.unused_data

    def _goes_on(self, after: bytes) -> bool:
        """Whether what comes after an end is another member."""
        self._over = self._over or not ("gzip" in self._encoding and after.startswith(MEMBER))
        return not self._over

    def close(self) -> None:
        """`zlib.error` if the body is not whole."""
        if self._decoder is not None and not self._decoder.eof:
            raise zlib.error("the body ends too early")

    def _next(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise zlib.error("too many members")
        # "deflate" is zlib's format, but some servers leave its header out.
        bare = self._encoding == "deflate" and data[0] & 0x0F != zlib.DEFLATED
        return zlib.decompressobj(-zlib.MAX_WBITS if bare else WINDOWS[self._encoding])


async def decoded(raw: AsyncIterator[bytes], encoding: str, most: int) -> AsyncIterator[bytes]:
    """The body's bytes, by its `Content-Encoding`. `ProviderUnclear` where they cannot be decoded or are too many."""
    count = 0
    try:
        async for piece in _inflated(raw, encoding.strip().lower()):
            count += len(piece)
            if count > most:
                raise ProviderUnclear(f"an answer of more than {most} bytes")
            yield piece
    except zlib.error as error:
        raise ProviderUnclear("an answer that cannot be decoded") from error


async def read_all(pieces: AsyncIterator[bytes], allowance: ByteBudget) -> bytes:
    """All pieces as one, within what is left of the allowance meanwhile."""
    content = bytearray()
    try:
        async for piece in pieces:
            allowance.take(len(piece))
            content += piece
        return bytes(content)
    finally:
        allowance.give_back(len(content))
        content.clear()  # an error's traceback would keep it until the next garbage collection


async def read_error(raw: AsyncIterator[bytes], encoding: str) -> bytes:
    """An error's body up to its bound. That it is cut or unreadable hides no error: the status tells most of it."""
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
    """What comes within so many seconds. `TimeoutError` at their end; `ProviderUnclear` for a body that trickles.

    How long its reader takes over a piece is not held against the provider.
    """
    clock = asyncio.get_running_loop()
    end, waited, count = clock.time() + seconds, 0.0, 0
    while True:
        asked_at = clock.time()
        async with asyncio.timeout_at(end):
            piece = await anext(raw, None)
        if piece is None:
            return
        waited, count = waited + clock.time() - asked_at, count + len(piece)
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
