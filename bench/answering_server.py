"""A server of completions that answers each call after a pause, with as little work as possible.

python -m bench.answering_server --port 4010 --milliseconds 200
"""

import argparse
import asyncio

import orjson

ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110},
    }
)
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
BLANK = b"\r\n\r\n"
LENGTH = b"content-length:"


class RequestReader(asyncio.Protocol):
    """A connection of HTTP/1.1: `received` is called with the body of each request, which it answers to `transport`."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""

    def received(self, body: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(BLANK)) >= 0:
            head = self._received[:end].lower()
            _, given, rest = head.partition(LENGTH)
            start = end + len(BLANK)
            length = int(rest.split(b"\r\n", 1)[0]) if given else 0
            if len(self._received) < start + length:
                return
            body, self._received = self._received[start : start + length], self._received[start + length :]
            self.received(body)


class AnsweringServer(RequestReader):
    """A connection whose requests are answered one after the other, each `seconds` after it has come."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def received(self, body: bytes) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(RESPONSE)


async def serve(port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: AnsweringServer(seconds), "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--milliseconds", type=float, default=200)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.milliseconds / 1000))
