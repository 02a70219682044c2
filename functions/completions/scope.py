"""What a completion request holds from its first call to the last byte of its answer."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from anyio import CancelScope

from completions import api_gateway
from completions.ledger import Admission, Ledger
from completions.request import CompletionRequest
from manifold.access import Caller
from manifold.dispatch.attempts import PlannedCall
from manifold.dispatch.dispatcher import Dispatcher
from manifold.dispatch.router import Router


class Scope:
    """One request's open parts, and the router that makes its calls with them."""

    def __init__(self, router: Router, admission: Admission, stack: AsyncExitStack) -> None:
        self.router = router
        self.admission = admission
        self._stack = stack

    async def until_read(self, pieces: AsyncGenerator[bytes, None], end: bytes) -> AsyncGenerator[bytes, None]:
        """The pieces of an answer, without their empty first. The scope stays open until they end or are closed.

        The key is verified before the first of them, which raises as `Admission.check` does. The scope is closed before
        `end`, the last piece of a whole answer, so that who has all of it finds its record.
        """
        closing = _then_close(self._stack.pop_all(), pieces, end)
        await anext(closing)  # closing a generator that has not begun runs none of its code
        try:
            await self.admission.verify()
        except BaseException:
            await closing.aclose()
            raise
        return closing


class Scopes:
    """Opens the scope of each request, for one environment. `timeout` is API Gateway's, in seconds."""

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, timeout: float) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._timeout = timeout

    @asynccontextmanager
    async def open(
        self, request: CompletionRequest, calls: Sequence[PlannedCall], caller: Caller, event: Mapping[str, Any] | None
    ) -> AsyncIterator[Scope]:
        """The scope of a request that comes to these calls, each of which was planned for this caller.

        1. Its deadline counts from its arrival at API Gateway, by `event`; without one, from now. An answer of which
           nothing leaves before all of it is sent within `IDLE_SECONDS`.
        2. The ledger admits the calls. It comes first, so that a request over a limit makes none: `TooManyRequests`
           or `BudgetExceeded`.
        3. The router is made, with the request's own `timeout` and `num_retries`, and the ledger's report.

        They close in the reverse order: the router writes how its deployments did; then the ledger writes each call,
        last, as it must have every attempt. Both happen whatever ends the request: an answer, an error, or a client
        that leaves.
        """
        begins_at_once = request.stream or request.several_answers
        timeout = self._timeout if begins_at_once else min(self._timeout, api_gateway.IDLE_SECONDS)
        deadline = api_gateway.deadline(event, timeout)
        async with AsyncExitStack() as stack:
            admission = await stack.enter_async_context(self._ledger.admitted(caller, [call.group for call in calls]))
            router = await stack.enter_async_context(
                self._dispatcher.router(
                    deadline.within(request.timeout), admission.report, admission.may_use, retries=request.retries
                )
            )
            yield Scope(router, admission, stack)


async def _then_close(
    stack: AsyncExitStack, pieces: AsyncGenerator[bytes, None], end: bytes
) -> AsyncGenerator[bytes, None]:
    is_whole = False
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if piece == end:
                    is_whole = True
                    break
                yield piece
    finally:
        with CancelScope(shield=True):  # a client that leaves cancels this, and its calls were made
            await stack.aclose()
    if is_whole:
        yield end
