"""The model groups that a create names: as `target_model_names` or LiteLLM's `model`, in its body, query or headers."""

from collections.abc import Sequence

from manifold.errors import InvalidRequest

Names = Sequence[str]


def requested(target_model_names: Sequence[Names], model: Sequence[Names]) -> list[str]:
    """What the first place says that says anything. Raises `InvalidRequest` if `model` says something else.

    Each is given by place: the body first, then the query, then the headers.
    """
    names = next((list(found) for found in target_model_names if found), [])
    models = list(dict.fromkeys(name for found in model for name in found))
    if len(models) > 1:
        raise _contradiction(f"'model' (or 'x-litellm-model') names {', '.join(models)}, but may name one model.")
    if names and models and names != models:
        raise _contradiction(f"'model' (or 'x-litellm-model') is {models[0]}, 'target_model_names' {', '.join(names)}.")
    return names or models


def _contradiction(message: str) -> InvalidRequest:
    remedy = " Name the models by 'target_model_names' alone."
    return InvalidRequest(message + remedy, param="model", code="contradictory_parameters")
