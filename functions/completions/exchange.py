"""One request's calls, and the answer that they come to."""

from collections.abc import Sequence

from completions import answers
from completions.answers import Outcome
from completions.fanout import all_of, first_of, outcome
from completions.plan import Call
from completions.router import Router
from completions.wanted import Wanted

Rows = Sequence[Sequence[Call]]
"""A row for each prompt, in it a call to each model."""


class Exchange:
    def __init__(self, router: Router, asked: Wanted, rows: Rows) -> None:
        self._router = router
        self._asked = asked
        self._rows = rows

    async def answer(self) -> tuple[bytes, dict[str, str]]:
        """The answer as JSON, and the headers that tell of it. Of a single answer, the error is raised."""
        asked = self._asked
        if not asked.several_prompts and (asked.fastest or not asked.several_models):
            answer = await self._fastest(self._rows[0])
            return answers.single(answer), answers.headers(answer)
        found = await (self._fastest_of_each() if asked.fastest else self._all())
        nested = asked.several_prompts and asked.several_models and not asked.fastest
        return answers.several(found, nested=nested), answers.headers_of_several(found)

    async def _all(self) -> Sequence[Sequence[Outcome]]:
        calls = [call for row in self._rows for call in row]
        found = iter(await all_of(calls, lambda call: outcome(self._router.complete(call)), self._asked.workers))
        return [[next(found) for _ in row] for row in self._rows]

    async def _fastest_of_each(self) -> Sequence[Sequence[Outcome]]:
        at_once = max(1, self._asked.workers // len(self._asked.models))
        found = await all_of(self._rows, lambda row: outcome(self._fastest(row)), at_once)
        return [[one] for one in found]

    async def _fastest(self, row: Sequence[Call]) -> answers.Completion:
        if len(row) == 1:
            return await self._router.complete(row[0])
        return await first_of([(call.group, self._router.complete(call)) for call in row])
