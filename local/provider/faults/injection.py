"""The ASGI layer around the simulated provider that records each call and injects the faults."""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.provider.clock import Clock
from local.provider.dialects import PREFIX
from local.provider.faults.answers import send_answer
from local.provider.faults.connections import disconnect, read_part, run_until_disconnect, wait_for_disconnect
from local.provider.faults.fault import FLOODS, Fault, Faults
from local.provider.faults.floods import flood
from local.provider.faults.overrides import MemberOverride
from local.provider.faults.routes import route_name
from local.provider.faults.streams import FaultyStream
from local.provider.faults.truncation import TruncatedAnswer, without_ranges


class FaultInjection:
    """The outermost ASGI layer: records each call of a provider's API, and lets it meet its fault, if there is one."""

    def __init__(self, app: ASGIApp, faults: Faults, record: Callable[[dict[str, Any]], None], clock: Clock) -> None:
        self._app = app
        self._faults = faults
        self._record = record
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = PREFIX.match(scope["path"]) if scope["type"] == "http" else None
        if match is None:
            return await self._app(scope, receive, send)
        account, route = match["account"], route_name(scope["method"], scope["path"][match.end() :])
        fault = self._faults.take(account, route)
        entry = {
            "at": self._clock.now(),
            "client": scope["client"],
            "method": scope["method"],
            "path": scope["path"],
            "account": account,
            "route": route,
            "fault": fault.kind if fault else None,
            "status": None,
        }
        self._record(entry)
        scope.setdefault("state", {})["entry"] = entry
        if route.startswith(("files.", "batches.", "objects.")):
            return await self._run(fault, scope, receive, send)
        return await run_until_disconnect(partial(self._run, fault), entry, self._clock, scope, receive, send)

    async def _run(self, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        entry = scope["state"]["entry"]
        if fault is None:
            return await self._app(scope, receive, _recording_status(send, entry))
        if fault.kind == "override":
            override = MemberOverride(fault.members, fault.omitted, _recording_status(send, entry))
            return await self._app(scope, receive, override)
        if fault.when == "within":
            return await self._app(
                scope,
                receive,
                FaultyStream(fault, scope["path"], receive, _recording_status(send, entry), send, self._clock),
            )
        if fault.kind == "truncate":
            return await self._app(without_ranges(scope, fault), receive, TruncatedAnswer(fault, send))
        if fault.kind == "delay":
            return await self._delayed(fault, scope, receive, _recording_status(send, entry))
        if fault.received is not None:
            await read_part(receive, fault.received)
        if fault.when == "after":
            await self._app(scope, receive, _recording_status(_discard, entry))
        return await self._strike(fault, scope, receive, send)

    async def _strike(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Do what the fault says in place of an answer."""
        if fault.kind == "cut":
            return await disconnect(send, abruptly=True)
        if fault.kind == "hang":
            return await wait_for_disconnect(receive)
        if fault.kind in FLOODS:
            return await flood(fault, receive, send)
        return await send_answer(fault, scope["path"], _recording_status(send, scope["state"]["entry"]))

    async def _delayed(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer late: `when="before"` delays the work, `when="after"` only the answer."""

        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._clock.sleep(fault.seconds)
            await send(message)

        if fault.when == "before":
            await self._clock.sleep(fault.seconds)
        await self._app(scope, receive, late if fault.when == "after" else send)


async def _discard(message: Message) -> None:
    pass


def _recording_status(send: Send, entry: dict[str, Any]) -> Send:
    """A `send` that writes the status of the answer into the entry."""

    async def recorded(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry["status"] = message["status"]
        await send(message)

    return recorded
