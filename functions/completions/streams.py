"""Answers as server-sent events: https://platform.openai.com/docs/api-reference/chat/streaming"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from completions import answers, usage
from completions.deadline import OUTRUN, Cut
from completions.fanout import first_of
from completions.ledger import Attempt, Report
from completions.plan import PlannedCall
from completions.router import Answer, Begun, Router
from manifold import observe
from manifold.errors import CallFailed, ManifoldError, ProviderError

DONE = b"data: [DONE]\n\n"


async def begin(router: Router, calls: Sequence[PlannedCall], report: Report) -> "Stream":
    """The stream of the only call, or of the one whose first token comes first; the others are closed."""
    if len(calls) == 1:
        begun = await router.begin(calls[0])
    else:
        works = [(call.group, router.begin(call)) for call in calls]
        begun = await first_of(works, lambda late: Stream(late, calls[0], router, report).give_up())
    return Stream(begun, calls[0], router, report)


class Stream:
    """One stream on its way out. Its end is reported when it is read to its end, breaks off or is closed."""

    def __init__(self, begun: Answer[Begun], call: PlannedCall, router: Router, report: Report) -> None:
        self._begun = begun
        self._call = call
        self._router = router
        self._report = report
        self._usage: dict[str, Any] | None = None
        self._pieces = 0
        self._error: ProviderError | ManifoldError | None = None
        self._started_at = asyncio.get_running_loop().time() - begun.seconds
        self.headers = answers.headers(begun)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Each chunk as an event, then `[DONE]`; or, where it breaks off, the error as an event, and nothing more."""
        room = answers.MAX_BYTES - answers.ERROR_BYTES
        try:
            async with contextlib.aclosing(self._begun.body.rest):
                async for chunk in self._chunks():
                    event = _event(chunk)
                    room -= answers.carried(event)
                    if room < 0:
                        raise answers.too_large()
                    yield event
        except ManifoldError as error:
            self._error = self._error or error
            yield _event(error.body())
        except (asyncio.CancelledError, GeneratorExit):
            self._error = Cut(499, "cancelled")
            raise
        else:
            yield DONE
        finally:
            self._reported()

    async def give_up(self) -> None:
        """Close it, as another was faster."""
        for chunk in self._begun.body.head:
            self._note(chunk)
        await self._begun.body.rest.aclose()
        self._error = Cut(499, OUTRUN)
        self._reported()

    def _note(self, chunk: dict[str, Any]) -> None:
        self._usage = chunk.get("usage") or self._usage
        self._pieces += usage.pieces(chunk)

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks that the client is to see, with the group's name as `model`."""
        shown = usage.is_requested(self._call.body)
        async for chunk in self._all():
            self._note(chunk)
            if shown or not usage.is_only_usage(chunk):
                if not shown and chunk.get("usage", ...) is None:
                    del chunk["usage"]  # it is there because the gateway asked
                chunk["model"] = self._begun.deployment.group
                yield chunk

    async def _all(self) -> AsyncIterator[dict[str, Any]]:
        for chunk in self._begun.body.head:
            yield chunk
        try:
            while (following := await self._router.next(self._begun, self._call.route)) is not None:
                yield following
        except ProviderError as error:
            self._error = error
            if not isinstance(error, Cut):
                observe.failed("stream_broke", error, deployment_id=self._begun.deployment.id)
            raise self._broken(error) from error

    def _broken(self, error: ProviderError) -> CallFailed:
        """What the client is told, which has a part of the answer."""
        failure = self._router.failure(error)
        if error.status is not None or failure.code != "provider_error":
            return failure
        return CallFailed("The provider's answer broke off before its end.", status=failure.status, code=failure.code)

    def _reported(self) -> None:
        """Where the provider did not tell the usage, it is estimated."""
        seconds = asyncio.get_running_loop().time() - self._started_at
        used = self._usage or usage.estimated(self._call.body, self._pieces)
        self._report(Attempt(self._begun.deployment, self._call.route, seconds, used, self._error))


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + answers.written(body) + b"\n\n"
