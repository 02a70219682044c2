"""Multipart forms (RFC 7578): one file, streamed, of a length that is known before the first byte; or fields alone."""

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from manifold.providers import Input
from manifold.providers.content import of_input


class Form(NamedTuple):
    """A form without a file."""

    content: bytes
    type: str
    """Its media type, with the boundary."""


def form(fields: Mapping[str, str]) -> Form:
    """A form of these fields."""
    boundary = secrets.token_hex(16)
    content = _fields(fields, boundary) + f"--{boundary}--\r\n".encode()
    return Form(content, f"multipart/form-data; boundary={boundary}")


class Multipart:
    """The fields, then `data` as the field that `file` names: a provider may need the fields before the file."""

    def __init__(self, fields: Mapping[str, str], data: Input, file: str = "file") -> None:
        self._data = data
        self._boundary = secrets.token_hex(16)
        self._head = _fields(fields, self._boundary) + self._file(file, data.name)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        """The request headers that describe the body."""
        length = len(self._head) + self._data.bytes + len(self._tail)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(length),
        }

    async def stream(self) -> AsyncIterator[bytes]:
        """The body. `ValueError` if the input's length is not `data.bytes`: our own fault, not the provider's."""
        yield self._head
        async for chunk in of_input(self._data).exact():
            yield chunk
        yield self._tail

    def _file(self, field: str, name: str) -> bytes:
        disposition = f'Content-Disposition: form-data; name="{field}"; filename="{_quoted(name)}"'
        return f"--{self._boundary}\r\n{disposition}\r\nContent-Type: application/jsonl\r\n\r\n".encode()


def _fields(fields: Mapping[str, str], boundary: str) -> bytes:
    return b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )


def _quoted(name: str) -> str:
    """The file name as HTML forms send it: the three characters that would break the header are percent-encoded."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
