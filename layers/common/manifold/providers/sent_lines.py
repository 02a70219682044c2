"""What the providers have in common that take a job's lines along with its create."""

from collections.abc import AsyncIterator

from manifold.providers import Endpoint, Input, Listed, Prepared


class SentLines:
    """The part of such a `BatchProvider` that makes no call: there are no inputs at the provider."""

    sends_lines = True

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        return Prepared(ref=None)

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        for one in tuple[Listed, ...]():
            yield one
