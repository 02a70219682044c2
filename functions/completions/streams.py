"""Answers as server-sent events: https://platform.openai.com/docs/api-reference/chat/streaming"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any

from completions import rendering
from completions.fanout import first_of
from completions.read_ahead import ReadAhead
from manifold import observe
from manifold.dispatch import token_usage
from manifold.dispatch.attempts import Answer, Attempt, PlannedCall
from manifold.dispatch.deadline import OUTRUN, Cut, now
from manifold.dispatch.router import Router
from manifold.dispatch.stream import Begun
from manifold.errors import CallFailed, ManifoldError, ProviderError
from manifold.responses import carried_bytes

DONE = b"data: [DONE]\n\n"
COMMENT = b": the model goes on\n\n"
"""What clients do not see. https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes"""
COMMENT_SECONDS = 15.0
"""A pause after which a comment keeps the connection alive, for what is between the gateway and the client."""
HEAD_SECONDS = 60.0
"""After so long without a first token the response begins with a comment: a later failure is then an event."""


async def begin(router: Router, calls: Sequence[PlannedCall], *, held: bool) -> "Stream":
    """The stream of the only call, or of the one whose first token comes first; the others are closed.

    `held`: Lambda holds what is sent, up to its limit.
    """
    if len(calls) == 1:
        begun = await router.begin(calls[0])
    else:
        works = [(call.group, router.begin(call)) for call in calls]
        begun = await first_of(works, lambda late: Stream(late, calls[0], router, held=held).give_up())
    return Stream(begun, calls[0], router, held=held)


async def answer(
    beginning: "asyncio.Task[Stream]", verified: Awaitable[None]
) -> tuple[AsyncGenerator[bytes, None], dict[str, str]]:
    """The events of a stream, and the response's headers. Raises as `begin` does within `HEAD_SECONDS`.

    Raises as `verified` does, which is awaited first, while the stream begins.
    """
    try:
        await verified
        await asyncio.wait((beginning,), timeout=HEAD_SECONDS)
        if beginning.done():
            stream = beginning.result()
            return stream.events(), stream.headers
    except BaseException:
        await _end(beginning)
        raise
    return _late_events(beginning), {}


async def _late_events(beginning: "asyncio.Task[Stream]") -> AsyncGenerator[bytes, None]:
    """The events of a stream that has not begun, with comments until it does."""
    try:
        yield b""
        while not beginning.done():
            yield COMMENT
            await asyncio.wait((beginning,), timeout=COMMENT_SECONDS)
        events = beginning.result().events()
    except ManifoldError as error:
        yield _event(error.body())
        return
    except (asyncio.CancelledError, GeneratorExit):
        await _end(beginning)
        raise
    async with contextlib.aclosing(events):
        async for event in events:
            yield event


async def _end(beginning: "asyncio.Task[Stream]") -> None:
    """End a stream that nobody reads, whether it has begun or not."""
    beginning.cancel()
    await asyncio.wait((beginning,))
    if not beginning.cancelled() and beginning.exception() is None:
        await beginning.result().give_up("cancelled")


class Stream:
    """One stream on its way to the client. Its attempt is reported when it has been read, breaks off or is closed.

    `begin` makes it and the app sends its `events`, the response's body; `headers` go before it.
    """

    def __init__(self, begun: Answer[Begun], call: PlannedCall, router: Router, *, held: bool) -> None:
        self._begun = begun
        self._call = call
        self._router = router
        self._held = held
        self._usage: dict[str, Any] | None = None
        self._pieces = 0
        self._error: ProviderError | ManifoldError | None = None
        self._started_at = now() - begun.seconds
        self.headers = rendering.headers(begun)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Each chunk as an event, then `[DONE]`; or, where it breaks off, the error as an event, and nothing more.

        They begin with an empty text. Once that has been read, closing them reports the attempt. Events that have come
        by the time the last ones have been sent are one text.
        """
        try:
            async with contextlib.aclosing(self._begun.body.rest):
                yield b""
                async with ReadAhead(self._events()) as coming:
                    while (events := await coming.take(COMMENT_SECONDS)) is not None:
                        yield b"".join(events) or COMMENT
        except ManifoldError as error:
            self._error = self._error or error
            yield _event(error.body())
        except (asyncio.CancelledError, GeneratorExit):
            self._error = Cut(499, "cancelled")
            raise
        else:
            yield DONE
        finally:
            self._report()

    async def give_up(self, why: str = OUTRUN) -> None:
        """Close it, as another model's began first, or as the client has left, and report that."""
        for chunk in self._begun.body.head:
            self._note(chunk)
        await self._begun.body.rest.aclose()
        self._error = Cut(499, why)
        self._report()

    def _note(self, chunk: dict[str, Any]) -> None:
        self._usage = chunk.get("usage") or self._usage
        self._pieces += token_usage.pieces(chunk)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """The chunks that the client is to see, as events. Raises `InvalidRequest` where they become too large."""
        shown = token_usage.is_requested(self._call.body)
        left = rendering.MAX_BYTES - rendering.ERROR_BYTES if self._held else math.inf
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                self._note(chunk)
                if not shown:
                    if token_usage.is_only_usage(chunk):
                        continue
                    if chunk.get("usage", ...) is None:
                        del chunk["usage"]  # it is there as the gateway asked for it
                event = _event(chunk)
                if self._held:
                    left -= carried_bytes(event)
                    if left < 0:
                        raise rendering.too_large()
                yield event

    async def _chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        for chunk in self._begun.body.head:
            yield chunk
        try:
            while (following := await self._router.next(self._begun, self._call.route)) is not None:
                yield following
        except ProviderError as error:
            self._error = error
            if not isinstance(error, Cut):
                observe.failed("stream_interrupted", error, deployment_id=self._begun.deployment.id)
            raise self._broken(error) from error

    def _broken(self, error: ProviderError) -> CallFailed:
        """The error of a client that has a part of the answer."""
        failure = self._router.deadline.failure(error)
        if error.status is not None or failure.code != "provider_error":
            return failure
        return CallFailed("The provider's answer broke off before its end.", status=failure.status, code=failure.code)

    def _report(self) -> None:
        """Report the attempt, with an estimate where the provider sent no usage."""
        seconds = now() - self._started_at
        usage = self._usage or token_usage.estimated(self._call.body, self._pieces)
        self._router.report(Attempt(self._begun.deployment, self._call.route, seconds, usage, self._error))


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + rendering.json_of(body) + b"\n\n"
