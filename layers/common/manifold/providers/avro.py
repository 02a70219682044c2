"""Avro container files as JSON Lines, block by block as the bytes arrive: no more than one block is in memory.

docs/decisions/0031-avro.md says why no library does this.
https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

import zlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

from manifold import lenient_json
from manifold.errors import ProviderUnclear
from manifold.providers.avro_schema import LONGEST_NUMBER, Datum, decoder
from manifold.providers.failures import UNREADABLE

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
MAX_BLOCK = 64 * 1024 * 1024
"""Bytes of one block, also after it is decompressed. Writers begin a new one after some tens of kilobytes."""
MAX_HEADER = 1024 * 1024
MAX_RECORDS = 1_000_000
"""Records of one block: those of a schema without content take no bytes."""


async def json_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each block's records as JSON Lines. A record that is a text is taken for the JSON of one.

    `ProviderUnclear` if this is no Avro file, if it breaks off, or if it is compressed by other than `deflate`.
    """
    file = _File(chunks)
    try:
        header = await _header(file)
        decode = decoder(orjson.loads(header.get("avro.schema", b"")))
        deflated = _is_deflated(header.get("avro.codec", b"null"))
        sync = await file.take(SYNC_BYTES)
        while not await file.ended():
            count, block = await file.number(MAX_RECORDS), await file.take(await file.number(MAX_BLOCK))
            if await file.take(SYNC_BYTES) != sync:
                raise ProviderUnclear("an Avro file whose blocks do not end where they should")
            records = Datum(_inflated(block) if deflated else block)
            yield b"".join(_line(decode(records)) for _ in range(count))
    except (*UNREADABLE, RecursionError, zlib.error) as error:
        raise ProviderUnclear(f"an Avro file that cannot be read: {type(error).__name__}") from error


class _File:
    """The bytes that have arrived, and those still to come."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    async def ended(self) -> bool:
        return not await self._has(1)

    async def take(self, size: int) -> bytes:
        if not await self._has(size):
            raise ProviderUnclear("an Avro file that breaks off")
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def number(self, most: int) -> int:
        """A number of 0 to `most`: zigzag, seven bits in each byte."""
        value = await self.signed()
        if not 0 <= value <= most:
            raise ProviderUnclear("an Avro file with a number out of bounds")
        return value

    async def signed(self) -> int:
        bits = 0
        for shift in range(0, 7 * LONGEST_NUMBER, 7):
            (byte,) = await self.take(1)
            bits |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (bits >> 1) ^ -(bits & 1)
        raise ProviderUnclear("an Avro file with a number out of bounds")

    async def _has(self, size: int) -> bool:
        while len(self._held) < size:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return False
            self._held += chunk
        return True


async def _header(file: _File) -> dict[str, bytes]:
    """The file's metadata: a map of byte strings, in blocks. A negative count is followed by the block's size."""
    if await file.take(len(MAGIC)) != MAGIC:
        raise ProviderUnclear("a file that is not Avro")
    entries: dict[str, bytes] = {}
    while count := await file.signed():
        if count < 0:
            await file.number(MAX_HEADER)
        for _ in range(abs(count)):
            name = await file.take(await file.number(MAX_HEADER))
            entries[name.decode()] = await file.take(await file.number(MAX_HEADER))
    return entries


def _is_deflated(codec: bytes) -> bool:
    if codec not in (b"null", b"deflate"):
        raise ProviderUnclear("an Avro file of an unknown compression")
    return codec == b"deflate"


def _inflated(block: bytes) -> bytes:
    content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(block, MAX_BLOCK + 1)
    if len(content) > MAX_BLOCK:
        raise ProviderUnclear("an Avro file with a block that is too large")
    return content


def _line(record: Any) -> bytes:
    value = lenient_json.answer(record.encode()) if isinstance(record, str) else record
    return orjson.dumps(value) + b"\n"
