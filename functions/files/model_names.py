"""The model groups that a create names, as `target_model_names` or LiteLLM's `model`, in body, query or headers."""

from collections.abc import Sequence

from manifold.errors import InvalidRequest

Names = Sequence[str]


def requested(target_model_names: Sequence[Names], model: Sequence[Names]) -> list[str]:
    """The names from the first place that has any. Raises `InvalidRequest` if `model` contradicts them.

    Both parameters hold the names by place: body, query, headers.
    """
    names = next((list(place) for place in target_model_names if place), [])
    models = list(dict.fromkeys(name for place in model for name in place))
    if len(models) > 1:
        raise _contradiction(f"'model' (or 'x-litellm-model') names {', '.join(models)}, but may name one model.")
    if names and models and names != models:
        raise _contradiction(f"'model' (or 'x-litellm-model') is {models[0]}, 'target_model_names' {', '.join(names)}.")
    return names or models


def _contradiction(message: str) -> InvalidRequest:
    remedy = " Name the models by 'target_model_names' alone."
    return InvalidRequest(message + remedy, param="model", code="contradictory_parameters")
