"""Trouble on demand, per account and route, and the note of each request that came."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.provider.attendance import attended
from local.provider.dialects import PREFIX, wording_of
from local.provider.floods import FLOODS, Flood, flood, go_on, left
from local.provider.native.wordings import GeminiWording
from local.provider.overlay import Overlay
from local.provider.refusal import Refusal
from local.provider.refusals import refusal_about

Kind = Flood | Literal[
    "refuse", "too_long", "forbidden", "rate_limit", "error", "garbage", "cut", "delay", "hang", "truncate", "odd",
    "inject", "redirect",
]  # fmt: skip
ROUTES = {
    ("POST", r"/files"): "files.create",
    ("GET", r"/files"): "files.list",
    ("GET", r"/files/[^/]+"): "files.retrieve",
    ("GET", r"/files/[^/]+/content"): "files.content",
    ("DELETE", r"/files/[^/]+"): "files.delete",
    ("POST", r"/batches"): "batches.create",
    ("GET", r"/batches"): "batches.list",
    ("GET", r"/batches/[^/]+"): "batches.retrieve",
    ("POST", r"/batches/[^/]+(/|:)cancel"): "batches.cancel",
    ("GET", r"/batches/[^/]+/results"): "batches.results",
    ("POST", r"(/deployments/[^/]+)?/chat/completions"): "chat.create",
    ("POST", r"(/deployments/[^/]+)?/completions"): "completions.create",
    ("POST", r"(/deployments/[^/]+)?/embeddings"): "embeddings.create",
    ("POST", r"/v1/messages"): "chat.create",
    ("POST", r"/v2/chat"): "chat.create",
    ("POST", r"/v1beta/models/[^/]+:(generateContent|streamGenerateContent)"): "chat.create",
    ("POST", r"/model/.+/converse(-stream)?"): "chat.create",
}
STATUSES = {"refuse": 400, "rate_limit": 429, "error": 500}


class Fault(BaseModel):
    """What goes wrong with the next `times` calls (all of them, if `None`) of a route.

    `when="after"` does the work first: a create that fails but happened. `when="within"` lets a stream begin, and
    strikes after `chunks` of it. A `hang` keeps the connection open and says nothing more until the client leaves.
    An `inject` says `text` as it stands: within a stream, which then goes on, or in place of an answer (status 200).
    `too_long` and `forbidden` refuse the prompt for its length or its content, in the words of the path's provider.
    What a `Flood` is, `floods` says.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    account: str = "*"
    route: str = "*"
    times: int | None = 1
    when: Literal["before", "after", "within"] = "before"
    chunks: int = 2
    received: int | None = None
    """With `cut`: the bytes of the request's body after which it strikes, and the rest is never read."""
    status: int | None = None
    """Of the kinds `refuse` (400), `rate_limit` (429) and `error` (500), and of a flood (200)."""
    retry_after: str | None = None
    """The header, of seconds or an HTTP date, for any kind that answers; Gemini says seconds within its error."""
    retry_after_ms: str | None = None
    """The header of OpenAI's and Azure's, likewise."""
    seconds: float = 1.0
    """How long a `delay` takes, and a `trickle` from byte to byte; of a `batches.list` with no `times`, each page."""
    size: int = 256 * 1024 * 1024
    content_type: str = "application/json"
    """Of a flood."""
    members: dict[str, Any] = {}
    """Of an `odd` answer: what its JSON object, and each entry of its list, has in the place of its own members."""
    text: str = ""
    """Of an `inject`: events of a stream, with their ends, or a body. Of a `redirect` (302): where to."""
    bytes: int | None = None
    """Of its body that an answer has before it is a `truncate`d one; half of it, if `None`."""
    framing: Literal["length", "close", "chunked"] = "length"
    """How a `truncate`d answer says where it ends: by a length, which it does not reach; by the connection's end; or
    well, as if it were whole."""
    ranges: bool = True
    """Whether a `truncate`d answer is to a request for a range, too."""
    code: str = "simulated"
    message: str = "The simulated provider was told to do this."


class Faults:
    """The faults asked for, the oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def clear(self, account: str | None = None) -> None:
        with self._lock:
            self._faults = [fault for fault in self._faults if account not in (None, fault.account)]

    def take(self, account: str, route: str) -> Fault | None:
        """The fault that this call meets, counted."""
        with self._lock:
            for fault in self._faults:
                if fault.account in ("*", account) and fault.route in ("*", route):
                    self._count(fault)
                    return fault
        return None

    def _count(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)


class FaultyASGI:
    """The outermost layer: notes each call of a provider's API, and makes of it what its fault says."""

    def __init__(self, app: ASGIApp, faults: Faults, note: Callable[[dict[str, Any]], None]) -> None:
        self._app = app
        self._faults = faults
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = PREFIX.match(scope["path"]) if scope["type"] == "http" else None
        if match is None:
            return await self._app(scope, receive, send)
        account, route = match["account"], _route(scope["method"], scope["path"][match.end() :])
        fault = self._faults.take(account, route)
        entry = {
            "at": time.time(),
            "client": scope["client"],
            "method": scope["method"],
            "path": scope["path"],
            "account": account,
            "route": route,
            "fault": fault.kind if fault else None,
            "status": None,
        }
        self._note(entry)
        scope.setdefault("state", {})["entry"] = entry
        if route.startswith(("files.", "batches.")):
            return await self._run(fault, scope, receive, send)
        return await attended(partial(self._run, fault), entry, scope, receive, send)

    async def _run(self, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        entry = scope["state"]["entry"]
        if fault is None:
            return await self._app(scope, receive, _noting(send, entry))
        if fault.kind == "odd":
            return await self._app(scope, receive, Overlay(fault.members, _noting(send, entry)))
        if fault.when == "within":
            return await self._app(scope, receive, Within(fault, scope["path"], receive, _noting(send, entry), send))
        if fault.kind == "truncate":
            return await self._app(_without_ranges(scope, fault), receive, Truncated(fault, send))
        if fault.kind == "delay":
            return await self._delayed(fault, scope, receive, _noting(send, entry))
        if fault.received is not None:
            await _receive(receive, fault.received)
        if fault.when == "after":
            await self._app(scope, receive, _noting(_swallow, entry))
        return await self._strike(fault, scope, receive, send)

    async def _strike(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """What comes in place of an answer."""
        if fault.kind == "cut":
            return await _disconnect(send, abruptly=True)
        if fault.kind == "hang":
            return await left(receive)
        if fault.kind in FLOODS:
            return await flood(fault, receive, send)
        return await _reply(fault, scope["path"], _noting(send, scope["state"]["entry"]))

    async def _delayed(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Late, whether the work waits too or only the answer."""

        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(fault.seconds)
            await send(message)

        if fault.when == "before":
            await asyncio.sleep(fault.seconds)
        await self._app(scope, receive, late if fault.when == "after" else send)


def _without_ranges(scope: Scope, fault: Fault) -> Scope:
    """The request as a server sees it that knows no ranges."""
    if fault.ranges:
        return scope
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}


class Truncated:
    """The answer starts well, and ends within its body."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._fault = fault
        self._send = send
        self._left = fault.bytes
        self._over = False

    async def __call__(self, message: Message) -> None:
        if self._over:
            return None
        if message["type"] == "http.response.start":
            return await self._start(message)
        body = message.get("body", b"")
        if self._left is None:
            self._left = len(body) // 2
        piece = body[: self._left]
        self._left -= len(piece)
        self._over = not self._left or not message.get("more_body", False)
        return await self._part(piece)

    async def _start(self, message: Message) -> None:
        if self._fault.framing == "close":
            transport = self._send.__self__.transport  # type: ignore[attr-defined]
            transport.write(b"HTTP/1.1 %d\r\nconnection: close\r\n" % message["status"] + _raw(message) + b"\r\n")
            return
        dropped = (b"content-length",) if self._fault.framing == "chunked" else ()
        await self._send({**message, "headers": [one for one in message["headers"] if one[0] not in dropped]})

    async def _part(self, piece: bytes) -> None:
        if self._fault.framing == "close":
            self._send.__self__.transport.write(piece)  # type: ignore[attr-defined]
        else:
            more = not self._over or self._fault.framing == "length"
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        if self._over and self._fault.framing != "chunked":
            await _disconnect(self._send, abruptly=False)


def _raw(message: Message) -> bytes:
    """The headers but that of the length."""
    return b"".join(b"%s: %s\r\n" % one for one in message["headers"] if one[0] != b"content-length")


def _route(method: str, tail: str) -> str:
    for (verb, pattern), name in ROUTES.items():
        if verb == method and re.fullmatch(pattern, tail):
            return name
    return "unknown"


class Within:
    """Sends what the application does, up to the chunk after which its fault strikes."""

    def __init__(self, fault: Fault, path: str, receive: Receive, send: Send, connection: Send) -> None:
        self._fault = fault
        self._path = path
        self._receive = receive
        self._send = send
        self._connection = connection
        self._chunks = 0
        self._over = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._chunks += 1
            if self._chunks == self._fault.chunks + 1:
                await self._strike()
        if not self._over:
            await self._send(message)

    async def _strike(self) -> None:
        if self._fault.kind == "delay":
            return await asyncio.sleep(self._fault.seconds)
        if self._fault.kind == "inject":
            body = self._fault.text.encode()
            return await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._over = True
        if self._fault.kind == "hang":
            return await left(self._receive)
        if self._fault.kind in FLOODS:
            return await go_on(self._fault, self._receive, self._send)
        if self._fault.kind in ("cut", "truncate"):
            return await _disconnect(self._connection, abruptly=self._fault.kind == "cut")
        return await self._send({"type": "http.response.body", "body": self._event(), "more_body": False})

    def _event(self) -> bytes:
        if self._fault.kind == "garbage":
            return b"data: {not what you asked for\n\n"
        return wording_of(self._path).event(_refusal(self._fault, self._path))


def _refusal(fault: Fault, path: str) -> Refusal:
    if fault.kind == "too_long" or fault.kind == "forbidden":
        match = PREFIX.match(path)
        return refusal_about(fault.kind, match["form"] if match else "")
    return Refusal(fault.status or STATUSES[fault.kind], fault.code, fault.message, retry_after=fault.retry_after)


async def _reply(fault: Fault, path: str, send: Send) -> None:
    """Answer as the fault says."""
    if fault.kind == "garbage":
        status, body, content_type = fault.status or 200, b"<html>not what you asked for", b"text/html"
    elif fault.kind == "inject":
        status, body, content_type = fault.status or 200, fault.text.encode(), b"application/json"
    elif fault.kind == "redirect":
        status, body, content_type = 302, b"", b"text/plain"
    else:
        refusal, content_type = _refusal(fault, path), b"application/json"
        status, body = refusal.status, json.dumps(wording_of(path).error(refusal)).encode()
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if fault.kind == "redirect":
        headers.append((b"location", fault.text.encode()))
    if not isinstance(wording_of(path), GeminiWording):
        told = {b"retry-after": fault.retry_after, b"retry-after-ms": fault.retry_after_ms}
        headers += [(name, value.encode()) for name, value in told.items() if value is not None]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _receive(receive: Receive, count: int) -> None:
    """Read so many bytes of the request's body, or all of it."""
    while count > 0:
        message = await receive()
        count -= len(message.get("body", b""))
        if not message.get("more_body"):
            return


async def _disconnect(send: Send, *, abruptly: bool) -> None:
    """End the connection under the server: ASGI has no way to say it, so this knows uvicorn's request cycle."""
    transport = send.__self__.transport  # type: ignore[attr-defined]
    if abruptly:
        transport.abort()
    else:
        transport.close()
    await asyncio.sleep(0)


async def _swallow(message: Message) -> None:
    pass


def _noting(send: Send, entry: dict[str, Any]) -> Send:
    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry["status"] = message["status"]
        await send(message)

    return noted
