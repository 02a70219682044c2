"""The calls of one request that is not a stream of events, and the body that answers them."""

from collections.abc import AsyncGenerator, Sequence

from completions import rendering
from completions.fanout import InOrder, first_of, outcome
from completions.ledger import Admission
from completions.plan import CallsByPrompt
from completions.rendering import Completion
from completions.request import CompletionRequest
from manifold.dispatch.attempts import PlannedCall
from manifold.dispatch.router import Router

END = b"]"
"""Of an array."""
BLANK = b"\n"
"""Of an array, where JSON allows it: keeps the connection alive for what is between the gateway and the client."""
BLANK_SECONDS = 15.0


class RequestCalls:
    """The calls of one request: all of them, or of each prompt's the first that succeeds.

    The app makes it with the scope's router and admission. The shape of its answer is that of the request alone: a list
    for a list. `held`: Lambda holds the answer, up to its limit.
    """

    def __init__(
        self,
        router: Router,
        admission: Admission,
        request: CompletionRequest,
        by_prompt: CallsByPrompt,
        *,
        held: bool,
    ) -> None:
        self._router = router
        self._admission = admission
        self._request = request
        self._by_prompt = by_prompt
        self._held = held

    async def single(self) -> tuple[bytes, dict[str, str]]:
        """The only answer as JSON, and the response's headers. Raises `CallFailed` or `InvalidRequest`."""
        answer = await self._fastest(self._by_prompt[0])
        return rendering.single(answer, held=self._held), rendering.headers(answer)

    async def array(self) -> AsyncGenerator[bytes, None]:
        """The answers as an array, each once it and those before it are there; an error stands in its place.

        It begins with an empty text, once the calls begin, and ends with `END`. Closing it cancels the calls that are
        under way.
        """
        request = self._request
        rows = self._by_prompt if request.fastest else [[call] for calls in self._by_prompt for call in calls]
        nested = request.several_prompts and request.several_models and not request.fastest
        array = rendering.Array(len(rows), len(request.models) if nested else None, held=self._held)
        workers = max(1, request.workers // len(rows[0]))
        async with InOrder(rows, self._in_place, workers, rendering.too_large_in_place()) as in_order:
            yield b""
            yield b"["
            async for content in in_order.results(BLANK_SECONDS):
                yield BLANK if content is None else array.next(content)
        yield END

    async def _in_place(self, calls: Sequence[PlannedCall]) -> bytes:
        return rendering.in_place(await outcome(self._renewed(calls)))

    async def _renewed(self, calls: Sequence[PlannedCall]) -> Completion:
        await self._admission.renew()
        return await self._fastest(calls)

    async def _fastest(self, calls: Sequence[PlannedCall]) -> Completion:
        if len(calls) == 1:
            return await self._router.complete(calls[0])
        return await first_of([(call.group, self._router.complete(call)) for call in calls])
