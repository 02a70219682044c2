"""A multipart form with one file, of a length known before the first byte and never held whole (RFC 7578)."""

import secrets
from collections.abc import AsyncIterator, Mapping

from manifold.providers import Input


class Multipart:
    """The fields, then `data` as the field `file`. A provider may need the fields first to judge the file."""

    def __init__(self, fields: Mapping[str, str], data: Input) -> None:
        self._data = data
        self._boundary = secrets.token_hex(16)
        self._head = b"".join(self._field(name, value) for name, value in fields.items()) + self._file(data.name)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        """What the request must say of its body."""
        length = len(self._head) + self._data.bytes + len(self._tail)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(length),
        }

    async def stream(self) -> AsyncIterator[bytes]:
        """The body. `ValueError` if the input is longer or shorter than it said: our own fault, no provider's."""
        yield self._head
        sent = 0
        async for chunk in self._data.lines():
            sent += len(chunk)
            if sent > self._data.bytes:
                break
            yield chunk
        if sent != self._data.bytes:
            raise ValueError(f"input {self._data.name} is not the {self._data.bytes} bytes that it was said to be")
        yield self._tail

    def _field(self, name: str, value: str) -> bytes:
        disposition = f'Content-Disposition: form-data; name="{name}"'
        return f"--{self._boundary}\r\n{disposition}\r\n\r\n{value}\r\n".encode()

    def _file(self, name: str) -> bytes:
        disposition = f'Content-Disposition: form-data; name="file"; filename="{_quoted(name)}"'
        return f"--{self._boundary}\r\n{disposition}\r\nContent-Type: application/jsonl\r\n\r\n".encode()


def _quoted(name: str) -> str:
    """A file name as HTML forms send it: the three characters that would break the header, percent-encoded."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
