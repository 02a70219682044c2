"""The calls of one request, and the one body that answers them."""

from collections.abc import Sequence

from completions import rendering
from completions.fanout import all_of, first_of, outcome
from completions.plan import CallsByPrompt
from completions.rendering import Completion, Outcome
from completions.request import CompletionRequest
from manifold.dispatch.attempts import PlannedCall
from manifold.dispatch.router import Router


class RequestCalls:
    """The calls of one request that is not streamed: all of them, or of each prompt's the first that succeeds.

    The app makes it with the scope's router. The shape of its answer is that of the request alone: a list for a list.
    `room` is how many bytes it may have.
    """

    def __init__(self, router: Router, request: CompletionRequest, by_prompt: CallsByPrompt, room: int) -> None:
        self._router = router
        self._request = request
        self._by_prompt = by_prompt
        self._room = room

    async def answer(self) -> tuple[bytes, dict[str, str]]:
        """The answer as JSON, and the response's headers.

        A single answer's error is raised: `CallFailed` or `InvalidRequest`. Of several, it stands in its place.
        """
        request = self._request
        if not request.several_prompts and (request.fastest or not request.several_models):
            answer = await self._fastest(self._by_prompt[0])
            return rendering.single(answer, self._room), rendering.headers(answer)
        outcomes = await (self._fastest_of_each() if request.fastest else self._all())
        nested = request.several_prompts and request.several_models and not request.fastest
        return rendering.several(outcomes, self._room, nested=nested), rendering.headers_of_several(outcomes)

    async def _all(self) -> Sequence[Sequence[Outcome]]:
        calls = [call for of_prompt in self._by_prompt for call in of_prompt]
        outcomes = iter(await all_of(calls, lambda call: outcome(self._router.complete(call)), self._request.workers))
        return [[next(outcomes) for _ in of_prompt] for of_prompt in self._by_prompt]

    async def _fastest_of_each(self) -> Sequence[Sequence[Outcome]]:
        at_once = max(1, self._request.workers // len(self._request.models))
        outcomes = await all_of(self._by_prompt, lambda calls: outcome(self._fastest(calls)), at_once)
        return [[one] for one in outcomes]

    async def _fastest(self, calls: Sequence[PlannedCall]) -> Completion:
        if len(calls) == 1:
            return await self._router.complete(calls[0])
        return await first_of([(call.group, self._router.complete(call)) for call in calls])
