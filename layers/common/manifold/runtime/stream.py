"""The answer to one invocation, as it comes: a head, and then the body.

How a runtime streams: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming.
What API Gateway reads: https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode-lambda.html
"""

import asyncio
import base64
import json
from collections.abc import Iterable
from typing import Any

from manifold.runtime.api import ERROR_TYPE, VERSION, Invocation, RuntimeApi, RuntimeApiError, body_of, type_of

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
DELIMITER = bytes(8)
"""Between the head and the body."""
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
ANSWER_SECONDS = 10.0
"""How long the Runtime API may take to confirm an answer that has ended."""
MAX_CONFIRMATION = 64 * 1024


class StreamedAnswer:
    """Posts one answer. `left` is set once nobody takes it any more; what is written then is dropped.

    Raises `RuntimeApiError` where the Runtime API cannot be reached.
    """

    def __init__(self, api: RuntimeApi, invocation: Invocation) -> None:
        self.left = asyncio.Event()
        self.begun = False
        """Whether the head is on its way: an error then goes into the trailer."""
        self._api = api
        self._path = f"/{VERSION}/runtime/invocation/{invocation.id}/response"
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._confirmation: asyncio.Task[bytes]

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head."""
        try:
            self._reader, self._writer = await asyncio.open_connection(self._api.host, self._api.port)
        except OSError as error:
            raise RuntimeApiError(f"POST {self._path}: {type(error).__name__}") from error
        self.begun = True
        self._confirmation = asyncio.create_task(self._read())
        self._confirmation.add_done_callback(lambda _: self.left.set())
        request = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._api.host}:{self._api.port}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
            f"Trailer: {ERROR_TYPE}, {ERROR_BODY}\r\nConnection: close\r\n\r\n"
        )
        self._writer.write(request.encode())
        await self.write(head(status, headers) + DELIMITER)

    async def write(self, content: bytes) -> None:
        """Send some of the body. Waits where it is not taken as fast."""
        if not content or self.left.is_set():
            return
        self._writer.writelines((b"%x\r\n" % len(content), content, b"\r\n"))
        await self._drain()

    async def end(self, error: BaseException | None = None) -> None:
        """End the answer, with an error where it has broken off."""
        trailer = b""
        if error is not None:
            body = base64.b64encode(body_of(error)).decode()
            trailer = f"{ERROR_TYPE}: {type_of(error)}\r\n{ERROR_BODY}: {body}\r\n".encode()
        try:
            if not self.left.is_set():
                self._writer.write(b"0\r\n" + trailer + b"\r\n")
                await self._drain()
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._confirmation
        except TimeoutError:
            raise RuntimeApiError(f"POST {self._path}: no confirmation") from None
        finally:
            self._confirmation.cancel()
            self._writer.close()

    async def _read(self) -> bytes:
        """What the Runtime API says: its confirmation or, before the end, that nobody takes the answer any more."""
        try:
            return await self._reader.read(MAX_CONFIRMATION)
        except ConnectionError:
            return b""

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            self.left.set()


def head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer: JSON with its status, its headers and its cookies."""
    by_name: dict[str, list[str]] = {}
    cookies = list[str]()
    for name, value in headers:
        if name.lower() == b"set-cookie":
            cookies.append(value.decode("latin-1"))
        else:
            by_name.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    named: dict[str, Any] = {"statusCode": status, "multiValueHeaders": by_name}
    return json.dumps(named | ({"cookies": cookies} if cookies else {})).encode()
