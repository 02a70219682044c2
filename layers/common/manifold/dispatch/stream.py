"""A stream that has begun: as its first token has come, no other deployment is tried any more."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.dispatch.token_usage import has_token, requesting_usage
from manifold.providers.completion_provider import ProviderRequest


class Begun(NamedTuple):
    """The chunks up to the first token, and the rest of the stream. Whoever has it closes `rest`."""

    head: Sequence[dict[str, Any]]
    rest: AsyncGenerator[dict[str, Any], None]


async def begin(deployments: Deployments, deployment: Deployment, request: ProviderRequest) -> Begun:
    """A stream of this deployment, read up to its first token. Its usage is requested, where the provider can send it.

    Raises `InvalidRequest` or `ProviderError`, as `Deployments.stream` does.
    """
    body = requesting_usage(request.body, deployment)
    chunks = deployments.stream(deployment, request._replace(body=body))
    head: list[dict[str, Any]] = []
    async for chunk in chunks:
        head.append(chunk)
        if has_token(chunk):
            break
    return Begun(head, chunks)
