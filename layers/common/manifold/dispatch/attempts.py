"""A call to a model group, each attempt at it, and the answer."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from manifold.config import Deployment
from manifold.errors import InvalidRequest, ManifoldError, ProviderError
from manifold.providers.completion_provider import Route

Body = TypeVar("Body")
Failure = ProviderError | InvalidRequest
"""What ends an attempt without an answer: the provider's error, or a request that cannot be translated for it."""


class PlannedCall(NamedTuple):
    """A call to a model group, which any of its deployments may answer."""

    group: str
    route: Route
    body: dict[str, Any]
    """OpenAI's request body. Its `model`, if it has one, is not read."""


class Attempt(NamedTuple):
    """A call that was sent to one deployment, whatever ended it."""

    deployment: Deployment
    route: Route
    seconds: float
    usage: Mapping[str, Any] | None = None
    """OpenAI's usage object, or an estimate where the provider sent none; `None` of a call that it refused."""
    error: ProviderError | ManifoldError | None = None
    """Also the gateway's own, where it cut a stream short."""


Report = Callable[[Attempt], None]
"""Is given each attempt when it has ended."""


class Answer(NamedTuple, Generic[Body]):
    """What a deployment answered."""

    body: Body
    deployment: Deployment
    attempts: int
    """At all the group's deployments together."""
    seconds: float
    """Of the last attempt; of a stream, until its first token."""
