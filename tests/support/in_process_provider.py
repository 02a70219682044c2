"""The simulated provider within the test's process: no connection, no waiting, and a clock that the test moves.

A test module has the fixture by `pytest_plugins = ("tests.support.in_process_provider",)`. It is the same program as
over HTTP, without the faults that need a connection: floods, and answers that end at the connection's end.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.provider import Simulator
from local.provider.clock import Clock
from local.provider.faults.connections import Disconnected
from local.provider.pace import Pace
from local.provider.server import application
from local.provider.state import ProviderState

URL = "http://provider.test"
START = 1_800_000_000.0


class ManualClock(Clock):
    """Time that a test moves. A pause of the provider moves it, too, and takes none."""

    def __init__(self, start: float = START) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)
        await asyncio.sleep(0)


class InProcessTransport(httpx.AsyncBaseTransport):
    """httpx's way to the program. Its timeouts are by the clock: a `hang` is a `ReadTimeout`, after which the clock has
    moved by as much, and so is an answer that is later than the client waits. A `cut` is a `ReadError`."""

    def __init__(self, app: ASGIApp, clock: ManualClock) -> None:
        self._app = app
        self._clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        start, patience = self._clock.now(), request.extensions.get("timeout", {}).get("read")
        try:
            transport = httpx.ASGITransport(self._with_departure(request, patience))
            response = await transport.handle_async_request(request)
        except Disconnected as error:
            raise httpx.ReadError("the provider ended the connection", request=request) from error
        if patience is not None and self._clock.now() - start > patience:
            await response.aclose()
            raise httpx.ReadTimeout("the answer came too late", request=request)
        return response

    def _with_departure(self, request: httpx.Request, patience: float | None) -> ASGIApp:
        """The application, for a client that leaves a call which hangs."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            whole = False

            async def receive_or_leave() -> Message:
                nonlocal whole
                if whole and scope["state"]["entry"]["fault"] == "hang":
                    await self._clock.sleep(patience or 0)
                    raise httpx.ReadTimeout("no answer", request=request)
                message = await receive()
                whole = not message.get("more_body")
                return message

            await self._app(scope, receive_or_leave, send)

        return app


@dataclass(frozen=True, slots=True)
class InProcessProvider:
    """The program's controls, its clock, and the transport that leads to it."""

    simulator: Simulator
    clock: ManualClock
    transport: InProcessTransport


@pytest.fixture
def in_process_provider(tmp_path: Path) -> Iterator[InProcessProvider]:
    """A new simulated provider for each test, as fast as by default: a batch takes 2.5 seconds of the clock."""
    clock, spool = ManualClock(), tmp_path / "provider"
    spool.mkdir()
    state = ProviderState(spool, Pace(), clock)
    yield InProcessProvider(Simulator(URL, state), clock, InProcessTransport(application(state), clock))
    state.batches.clear()
