"""Claude's sampling parameters (`temperature`, `top_p` and `top_k`), at any provider.

https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility
"""

from collections.abc import Iterator, Mapping
from typing import Any

from manifold.providers.anthropic.models import takes_both, takes_sampling
from manifold.providers.parameters import Params

DEFAULT = 1
"""Of `temperature` and `top_p`: a default is left out."""
LEAST_TOP_P = 0.95
"""The least `top_p` with thinking."""


def take_sampling(params: Params, model: str, *, thinks: bool) -> dict[str, Any]:
    """Take the sampling parameters that the model accepts; refuse the others.

    A model that does not accept `temperature` and `top_p` together gets the `temperature`.
    """
    sampling = dict(_requested(params))
    for name, why in _unsupported(sampling, params, model, thinks):
        params.refuse(name, why)
        del sampling[name]
    if "temperature" in sampling and not takes_both(model):
        sampling.pop("top_p", None)
    return sampling


def _requested(params: Params) -> Iterator[tuple[str, Any]]:
    named = {"temperature": params.number("temperature", 0, 1), "top_p": params.take("top_p")}
    yield from ((name, value) for name, value in named.items() if value not in (None, DEFAULT))
    if "top_k" in params:
        yield "top_k", params.take("top_k")


def _unsupported(sampling: Mapping[str, Any], params: Params, model: str, thinks: bool) -> list[tuple[str, str]]:
    if not takes_sampling(model):
        return [(name, "it takes none of temperature, top_p and top_k") for name in sampling]
    if not thinks:
        return []
    why = {"temperature": "with thinking, it must be 1"}
    if params.drops:  # without drop_params, Anthropic itself refuses top_k
        why["top_k"] = "with thinking, it is not accepted"
    if isinstance(top_p := sampling.get("top_p"), int | float) and top_p < LEAST_TOP_P:
        why["top_p"] = f"with thinking, it must be {LEAST_TOP_P} to 1"
    return [(name, why[name]) for name in sampling if name in why]
