"""What Claude takes of `temperature`, `top_p` and `top_k`, wherever it runs.

https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility
"""

from collections.abc import Iterator, Mapping
from typing import Any

from manifold.providers.anthropic.models import takes_both, takes_sampling
from manifold.providers.parameters import Params

DEFAULT = 1
"""Of `temperature` and `top_p`: it says nothing, and is left out."""
LEAST_TOP_P = 0.95
"""While it thinks."""


def take_sampling(params: Params, model: str, *, thinks: bool) -> dict[str, Any]:
    """Those of the three that the model takes. `InvalidRequest` names one that it does not, or it is dropped.

    Of `temperature` and `top_p`, a model that refuses both gets the `temperature`.
    """
    wanted = dict(_wanted(params))
    for name, why in _impossible(wanted, params, model, thinks):
        params.refuse(name, why)
        del wanted[name]
    if "temperature" in wanted and not takes_both(model):
        wanted.pop("top_p", None)
    return wanted


def _wanted(params: Params) -> Iterator[tuple[str, Any]]:
    named = {"temperature": params.number("temperature", 0, 1), "top_p": params.take("top_p")}
    yield from ((name, value) for name, value in named.items() if value not in (None, DEFAULT))
    if "top_k" in params:
        yield "top_k", params.take("top_k")


def _impossible(wanted: Mapping[str, Any], params: Params, model: str, thinks: bool) -> list[tuple[str, str]]:
    if not takes_sampling(model):
        return [(name, "it takes none of temperature, top_p and top_k") for name in wanted]
    if not thinks:
        return []
    why = {"temperature": "while it thinks, it is 1"}
    if params.drops:  # else Anthropic's own word is for Anthropic to refuse
        why["top_k"] = "while it thinks, it takes none"
    if isinstance(top_p := wanted.get("top_p"), int | float) and top_p < LEAST_TOP_P:
        why["top_p"] = f"while it thinks, it is {LEAST_TOP_P} to 1"
    return [(name, why[name]) for name in wanted if name in why]
