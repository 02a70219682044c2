"""Reads AWS's event streams: binary frames, each with headers, a JSON payload and two checksums.

Big-endian: four bytes of the whole length, four of the headers' length, a CRC-32 of those eight, the headers, the
payload, a CRC-32 of all before. https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html
"""

import struct
import zlib
from collections.abc import Iterator, Mapping

import orjson

from manifold.providers.failures import read_object
from manifold.providers.sse import Event

CONTENT_TYPE = "application/vnd.amazon.eventstream"
PRELUDE = struct.Struct(">II")
CHECKSUM = struct.Struct(">I")
OVERHEAD = PRELUDE.size + 2 * CHECKSUM.size
MAX_FRAME = 24 * 1024 * 1024
"""Bytes: the protocol's own bounds are 16 MB of payload and 128 KB of headers."""
STRING = 7
SIZES: Mapping[int, int] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value, by its type. Types 6 (bytes) and 7 (text) begin with their length."""
STATUSES: Mapping[str, int] = {
    "internalServerException": 500,
    "modelStreamErrorException": 424,
    "modelTimeoutException": 408,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}


class FrameReader:
    """Turns chunks, cut anywhere, into events."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that end within `chunk`. `ValueError` for an invalid frame, after the events before it."""
        self._rest += chunk
        while len(self._rest) >= PRELUDE.size + CHECKSUM.size:
            size, headers_size = PRELUDE.unpack_from(self._rest)
            _check(self._rest, PRELUDE.size)
            if not OVERHEAD + headers_size <= size <= MAX_FRAME:
                raise ValueError("a frame of an impossible length")
            if len(self._rest) < size:
                return
            frame = bytes(self._rest[:size])
            del self._rest[:size]
            _check(frame, size - CHECKSUM.size)
            start = PRELUDE.size + CHECKSUM.size
            headers = _headers(frame[start : start + headers_size])
            yield _event(headers, frame[start + headers_size : -CHECKSUM.size])


def _check(data: bytes | bytearray, end: int) -> None:
    (expected,) = CHECKSUM.unpack_from(data, end)
    if zlib.crc32(data[:end]) != expected:
        raise ValueError("a frame with a wrong checksum")


def _event(headers: Mapping[str, str], payload: bytes) -> Event:
    """The event of a frame. An exception becomes an event with an `error`, as in the streams of other providers."""
    kind = headers.get(":message-type")
    if kind == "event":
        return Event(headers.get(":event-type", ""), payload)
    name = headers.get(":exception-type") or headers.get(":error-code") or "error"
    message = (read_object(payload) or {}).get("message")
    if not message or not isinstance(message, str):
        message = headers.get(":error-message") or name
    error = {"message": message, "type": name, "code": STATUSES.get(name, 500)}
    return Event(name, orjson.dumps({"error": error}))


def _headers(data: bytes) -> dict[str, str]:
    """The headers whose values are text. The others are skipped."""
    headers, position = {}, 0
    try:
        while position < len(data):
            name_end = position + 1 + data[position]
            name, kind = data[position + 1 : name_end].decode(), data[name_end]
            start = name_end + 1
            size = SIZES.get(kind)
            if size is None:
                (size,) = struct.unpack_from(">H", data, start)
                start += 2
            position = start + size
            if kind == STRING:
                headers[name] = data[start:position].decode()
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("a frame with unreadable headers") from error
    return headers
