"""Answers that end before they are complete."""

from starlette.types import Message, Scope, Send

from local.provider.faults.connections import disconnect
from local.provider.faults.fault import Fault


def without_ranges(scope: Scope, fault: Fault) -> Scope:
    """The request without its `range` header, if the fault says that ranges are ignored."""
    if fault.ranges:
        return scope
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}


class TruncatedAnswer:
    """A `send` that stops within the body, after `fault.bytes` of it."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._fault = fault
        self._send = send
        self._remaining = fault.bytes
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if self._ended:
            return None
        if message["type"] == "http.response.start":
            return await self._start(message)
        body = message.get("body", b"")
        if self._remaining is None:
            self._remaining = len(body) // 2
        piece = body[: self._remaining]
        self._remaining -= len(piece)
        self._ended = not self._remaining or not message.get("more_body", False)
        return await self._part(piece)

    async def _start(self, message: Message) -> None:
        if self._fault.framing == "close":
            transport = self._send.__self__.transport  # type: ignore[attr-defined]
            transport.write(
                b"HTTP/1.1 %d\r\nconnection: close\r\n" % message["status"] + _header_lines(message) + b"\r\n"
            )
            return
        dropped = (b"content-length",) if self._fault.framing == "chunked" else ()
        await self._send({**message, "headers": [one for one in message["headers"] if one[0] not in dropped]})

    async def _part(self, piece: bytes) -> None:
        if self._fault.framing == "close":
            self._send.__self__.transport.write(piece)  # type: ignore[attr-defined]
        else:
            more = not self._ended or self._fault.framing == "length"
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        if self._ended and self._fault.framing != "chunked":
            await disconnect(self._send, abruptly=False)


def _header_lines(message: Message) -> bytes:
    """The headers except `content-length`."""
    return b"".join(b"%s: %s\r\n" % one for one in message["headers"] if one[0] != b"content-length")
