"""Faults within a stream, after some of it was sent."""

from starlette.types import Message, Receive, Send

from local.provider.clock import Clock
from local.provider.dialects import error_format_of
from local.provider.faults.answers import refusal_of
from local.provider.faults.connections import disconnect, wait_for_disconnect
from local.provider.faults.fault import FLOODS, Fault
from local.provider.faults.floods import continue_flood


class FaultyStream:
    """A `send` that passes the application's messages on, until the fault strikes after `fault.chunks` of them."""

    def __init__(self, fault: Fault, path: str, receive: Receive, send: Send, connection: Send, clock: Clock) -> None:
        self._fault = fault
        self._path = path
        self._receive = receive
        self._send = send
        self._connection = connection
        self._clock = clock
        self._chunks = 0
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._chunks += 1
            if self._chunks == self._fault.chunks + 1:
                await self._strike()
        if not self._ended:
            await self._send(message)

    async def _strike(self) -> None:
        if self._fault.kind == "delay":
            return await self._clock.sleep(self._fault.seconds)
        if self._fault.kind == "inject":
            body = self._fault.text.encode()
            return await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._ended = True
        if self._fault.kind == "hang":
            return await wait_for_disconnect(self._receive)
        if self._fault.kind in FLOODS:
            return await continue_flood(self._fault, self._receive, self._send)
        if self._fault.kind in ("cut", "truncate"):
            return await disconnect(self._connection, abruptly=self._fault.kind == "cut")
        return await self._send({"type": "http.response.body", "body": self._event(), "more_body": False})

    def _event(self) -> bytes:
        if self._fault.kind == "garbage":
            return b"data: {not what you asked for\n\n"
        return error_format_of(self._path).event(refusal_of(self._fault, self._path))
