"""What a completion request holds from its first call to the last byte of its answer."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Self

from anyio import CancelScope

from completions import api_gateway
from completions.ledger import Admission, Ledger
from completions.request import CompletionRequest
from manifold.access import Caller
from manifold.dispatch.attempts import PlannedCall
from manifold.dispatch.dispatcher import Dispatcher
from manifold.dispatch.router import Router


class Scope:
    """One request's open parts, and the router that makes its calls with them: a context.

    It closes at its end or, where the answer is read later, when that has ended.
    """

    def __init__(self, ledger: Ledger, admission: Admission, router: Router) -> None:
        self.router = router
        self.admission = admission
        self._ledger = ledger
        self._is_read_later = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._is_read_later:
            return
        if error is not None and not isinstance(error, Exception):
            self.admission.is_leaving = True  # nobody waits for an answer
        await self.close()

    async def close(self) -> None:
        """The router writes how its deployments did, and then the ledger each call, as it must have every attempt.

        Raises as `Ledger.record` does.
        """
        try:
            await self.router.close()
        finally:
            await self._ledger.record(self.admission)

    async def until_read(self, pieces: AsyncGenerator[bytes, None], end: bytes) -> AsyncGenerator[bytes, None]:
        """The pieces of an answer, without their empty first. The scope stays open until they end or are closed.

        The key is verified before the first of them, which raises as `Admission.check` does. The scope is closed before
        `end`, the last piece of a whole answer, so that who has all of it finds its record.
        """
        self._is_read_later = True
        closing = _then_close(self, pieces, end)
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

    async def open(
        self, request: CompletionRequest, calls: Sequence[PlannedCall], caller: Caller, event: Mapping[str, Any] | None
    ) -> Scope:
        """The scope of a request that comes to these calls, each of which was planned for this caller.

        1. Its deadline counts from its arrival at API Gateway, by `event`; without one, from now. An answer of which
           nothing leaves before all of it is sent within `IDLE_SECONDS`.
        2. The ledger admits the calls. It comes first, so that a request over a limit makes none: `TooManyRequests`
           or `BudgetExceeded`.
        3. The router is made, with the request's own `timeout` and `num_retries`, and the ledger's report.

        Close it, whatever ends the request: an answer, an error, or a client that leaves.
        """
        begins_at_once = request.stream or request.several_answers
        timeout = self._timeout if begins_at_once else min(self._timeout, api_gateway.IDLE_SECONDS)
        deadline = api_gateway.deadline(event, timeout)
        admission = await self._ledger.admit(caller, [call.group for call in calls])
        router = self._dispatcher.router(
            deadline.within(request.timeout), admission.report, admission, retries=request.retries
        )
        return Scope(self._ledger, admission, router)


async def _then_close(scope: Scope, pieces: AsyncGenerator[bytes, None], end: bytes) -> AsyncGenerator[bytes, None]:
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
            await scope.close()
    if is_whole:
        yield end
