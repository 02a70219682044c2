"""The calls that a request asks for. Every model is checked before the first call is made."""

from collections.abc import Sequence

from completions.request import CompletionRequest
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.dispatch.attempts import PlannedCall
from manifold.errors import InvalidRequest, NotFound

MAX_NAME = 200
"""Characters of a name that an error repeats: a request may hold more than an answer can."""
CallsByPrompt = Sequence[Sequence[PlannedCall]]
"""For each prompt, a call to each model."""


def calls_by_prompt(request: CompletionRequest, caller: Caller, deployments: Deployments) -> CallsByPrompt:
    """For each prompt, a call to each model: in the order of the request.

    Raises `NotFound` for a model that does not exist, `PermissionDenied` for one that the caller may not use, and
    `InvalidRequest` for one that does not serve this route.
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
