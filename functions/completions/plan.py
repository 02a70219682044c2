"""Which calls a request comes to. Every model is checked before the first call is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from completions.request import CompletionRequest
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, NotFound
from manifold.providers.chat import Route

MAX_NAME = 200
"""Characters of a name that a message repeats: a request may hold more than an answer can."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call to a model group, which any of its deployments may answer."""

    group: str
    route: Route
    body: dict[str, Any]


def rows(request: CompletionRequest, caller: Caller, deployments: Deployments) -> Sequence[Sequence[PlannedCall]]:
    """A row for each prompt, in it a call to each model: in the order of the request.

    Raises `NotFound` for a model that is none, `PermissionDenied` for one that is closed to the caller, and
    `InvalidRequest` for one that does not answer on this route.
    """
    groups = [_group(name, caller, deployments) for name in request.models]
    caller.require(groups)
    for group in groups:
        if not deployments.serving(group, request.route):
            message = f"The model '{group}' does not serve {request.route}. GET /model/info shows each model's mode."
            raise InvalidRequest(message, param="model", code="route_not_served")
    return [[PlannedCall(group, request.route, body) for group in groups] for body in request.bodies]


def _group(name: str, caller: Caller, deployments: Deployments) -> str:
    group = caller.group(name)
    if not deployments.has(group):
        message = f"The model '{name[:MAX_NAME]}' does not exist. GET /models lists the models that this key may use."
        raise NotFound(message, param="model", code="model_not_found")
    return group
