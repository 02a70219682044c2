"""Lambda's Runtime API for functions on this machine, with answers that stream; as AWS documents it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html,
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-custom.html,
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
"""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "/2018-06-01/runtime/"
CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
DELIMITER = bytes(8)
MAX_HEAD = 64 * 1024
ERROR_TYPE, ERROR_BODY = "lambda-runtime-function-error-type", "lambda-runtime-function-error-body"


class FunctionError(Exception):
    """The function failed: its error's type, and what it says of it."""

    def __init__(self, kind: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{kind}: {details.get('errorMessage')}")
        self.kind = kind
        self.details = details


@dataclass(eq=False)
class Invocation:
    """One event on its way through a function."""

    event: Any
    seconds: float
    function_arn: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    trace_id: str = field(default_factory=lambda: f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}")
    _pieces: "asyncio.Queue[bytes | FunctionError | None]" = field(default_factory=asyncio.Queue)
    _writer: asyncio.StreamWriter | None = None
    _has_left: bool = False

    async def head(self) -> tuple[dict[str, Any], bytes]:
        """The head of the answer, and what came of the body with it. Raises `FunctionError`."""
        content = b""
        while DELIMITER not in content:
            piece = await self._piece()
            if piece is None or len(content) > MAX_HEAD:
                raise FunctionError("Runtime.InvalidResponse", {"errorMessage": "an answer without a head"})
            content += piece
        head, _, body = content.partition(DELIMITER)
        return json.loads(head), body

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the answer, as it comes. Raises `FunctionError`."""
        while (piece := await self._piece()) is not None:
            yield piece

    def leave(self) -> None:
        """Take no more of the answer: the function sees its connection closed."""
        self._has_left = True
        if self._writer is not None:
            self._writer.close()

    def answers_to(self, writer: asyncio.StreamWriter) -> None:
        """The answer comes over this connection."""
        self._writer = writer
        if self._has_left:
            writer.close()

    def add(self, piece: bytes | FunctionError | None) -> None:
        """Add to the answer: some bytes, the function's error, or its end."""
        self._pieces.put_nowait(piece)

    async def _piece(self) -> bytes | None:
        piece = await self._pieces.get()
        if isinstance(piece, FunctionError):
            raise piece
        return piece


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]


class RuntimeApi:
    """The API of one function: any number of its environments ask it for invocations.

    `invoke` hands an event to the next environment that asks. `init_error` is why one could not start, `restore_error`
    why one could not go on after a snapshot. `restore` lets those go on that wait at their snapshot.
    """

    def __init__(self, function_arn: str, seconds: float) -> None:
        self.init_error: FunctionError | None = None
        self.restore_error: FunctionError | None = None
        self.address = ""
        self.idle = 0
        """Environments that wait for an invocation."""
        self.asked = asyncio.Event()
        """Whether one has asked for an invocation."""
        self.snapshot = asyncio.Event()
        """Whether one has come to its snapshot, at which it waits for `restore`."""
        self._restored = asyncio.Event()
        self._function_arn = function_arn
        self._seconds = seconds
        self._waiting: asyncio.Queue[Invocation] = asyncio.Queue()
        self._open: dict[str, Invocation] = {}
        self._server: asyncio.Server | None = None
        self._connections = set[asyncio.StreamWriter]()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `address` is what `AWS_LAMBDA_RUNTIME_API` is to be."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"

    async def stop(self) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._connections):
                writer.close()
            await self._server.wait_closed()

    def invoke(self, event: Any) -> Invocation:
        """Have the function answer an event."""
        invocation = Invocation(event, self._seconds, self._function_arn)
        self._open[invocation.id] = invocation
        self._waiting.put_nowait(invocation)
        return invocation

    def restore(self) -> None:
        """Let the environments go on that wait at their snapshot."""
        self._restored.set()

    @property
    def waiting(self) -> int:
        """Invocations that no environment has taken."""
        return self._waiting.qsize()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection. What an environment took and did not answer as it ended has failed."""
        taken: Invocation | None = None
        self._connections.add(writer)
        try:
            while (request := await _request(reader)) is not None:
                if request.path == PREFIX + "restore/next":
                    await self._restore(reader, writer)
                elif request.path != PREFIX + "invocation/next":
                    await self._posted(request, reader, writer)
                elif (taken := await self._next(reader, writer)) is None:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._connections.discard(writer)
            if taken is not None and taken.id in self._open:
                del self._open[taken.id]
                taken.add(FunctionError("Runtime.ExitError", {"errorMessage": "the environment ended"}))

    async def _posted(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take an answer, or an error."""
        *_, invocation_id, verb = request.path.split("/")
        if request.path == PREFIX + "init/error":
            self.init_error = _error(request, await _content(reader, request))
            if self.waiting:  # nobody else may come for it
                refused = self._waiting.get_nowait()
                refused.add(self.init_error)
                invocation_id = refused.id
        elif request.path == PREFIX + "restore/error":
            self.restore_error = _error(request, await _content(reader, request))
        elif (invocation := self._open.get(invocation_id)) is None:
            await _content(reader, request)
            await _answer(writer, 400, b'{"errorType": "InvalidRequestID", "errorMessage": "Invalid request ID"}')
            return
        elif verb == "error":
            invocation.add(_error(request, await _content(reader, request)))
        else:
            invocation.answers_to(writer)
            await _take(reader, request, invocation)
        self._open.pop(invocation_id, None)
        await _answer(writer, 202, b'{"status": "OK"}')

    async def _restore(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Have the environment go on once it is restored, unless it ends before."""
        self.snapshot.set()
        restored = asyncio.create_task(self._restored.wait())
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((restored, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            restored.cancel()
        await asyncio.wait((gone,))
        await _answer(writer, 200, b"{}")

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Invocation | None:
        """Hand over the next invocation, unless the environment ends before there is one."""
        self.idle += 1
        self.asked.set()
        coming = asyncio.create_task(self._waiting.get())
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.idle -= 1
            gone.cancel()
        if not coming.done():
            coming.cancel()
            return None
        invocation = coming.result()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        await asyncio.wait((gone,))
        await _answer(writer, 200, json.dumps(invocation.event).encode(), headers)
        return invocation


async def _take(reader: asyncio.StreamReader, request: _Request, invocation: Invocation) -> None:
    """Take an answer as it comes: a stream in chunks with a trailer or, of a buffered one, its content."""
    if request.headers.get("transfer-encoding") != "chunked":
        invocation.add(await _content(reader, request))
        invocation.add(None)
        return
    try:
        async for piece in _chunks(reader):
            invocation.add(piece)
        trailer = await _headers(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        invocation.add(FunctionError("Runtime.ExitError", {"errorMessage": "the runtime closed its connection"}))
        raise
    invocation.add(_failed(trailer) if ERROR_TYPE in trailer else None)


def _failed(trailer: Mapping[str, str]) -> FunctionError:
    return FunctionError(trailer[ERROR_TYPE], json.loads(base64.b64decode(trailer.get(ERROR_BODY, "e30="))))


def _error(request: _Request, content: bytes) -> FunctionError:
    return FunctionError(request.headers.get(ERROR_TYPE, "Unhandled"), json.loads(content))


async def _request(reader: asyncio.StreamReader) -> _Request | None:
    """The next request's line and headers; `None` if the connection has ended."""
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    return _Request(method, path, await _headers(reader))


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


async def _content(reader: asyncio.StreamReader, request: _Request) -> bytes:
    if request.headers.get("transfer-encoding") == "chunked":
        content = b"".join([piece async for piece in _chunks(reader)])
        await _headers(reader)
        return content
    return await reader.readexactly(int(request.headers.get("content-length", 0)))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The chunks of a body, up to the last one: what follows is the trailer."""
    while size := int((await reader.readline()).partition(b";")[0] or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def _answer(
    writer: asyncio.StreamWriter, status: int, content: bytes, headers: Mapping[str, str] | None = None
) -> None:
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    await writer.drain()
