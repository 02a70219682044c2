"""Claude's parameters for thinking, at any provider.

From version 4.6 on, a model decides how much it thinks, guided by an effort. Earlier models take a number of tokens.
https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
"""

from collections.abc import Mapping
from typing import Any

from manifold.providers.anthropic.models import is_adaptive, most_tokens
from manifold.providers.parameters import BUDGETS, Params

LEAST_BUDGET = 1_024
DEFAULT_MAX_TOKENS = 8_192
"""Anthropic requires `max_tokens`, which OpenAI does not. Thinking tokens are added to it."""


def take_thinking(params: Params, model: str, *, must_call: bool = False) -> tuple[dict[str, Any], int | None]:
    """The request's fields for `reasoning_effort`, and its `max_tokens`.

    `max_tokens` is `None` if neither the client nor thinking needs it. The client's own `thinking` stays in `rest`.
    `must_call` tells that `tool_choice` demands a call, before which Claude cannot think.
    """
    limit, effort = params.token_limit(), params.effort()
    budget = _budget(params)
    if limit is None and budget is not None:
        limit = max_tokens(model, budget)
    if effort is None:
        return {}, limit
    if effort == "none":
        return {"thinking": {"type": "disabled"}}, limit
    if why := _unsupported(effort, must_call=must_call):
        params.refuse("reasoning_effort", why)
        return {}, limit
    if is_adaptive(model):
        level = "low" if effort == "minimal" else effort
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": level}}, limit
    return _budgeted(params, model, BUDGETS[effort], limit)


def is_signed(block: Mapping[str, Any]) -> bool:
    """Whether Claude accepts a block of `thinking_blocks`: it refuses one without a signature."""
    return bool(block.get("signature" if block.get("type") == "thinking" else "data"))


def max_tokens(model: str, budget: int = 0) -> int:
    """A limit with room for an answer after `budget` thinking tokens, within the model's own limit."""
    return min(budget + DEFAULT_MAX_TOKENS, most_tokens(model))


def thinks(params: Params, fields: dict[str, Any]) -> bool:
    """Whether thinking is on, by these fields or by the client's own `thinking`."""
    thinking = params.get("thinking") or fields.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def _unsupported(effort: object, *, must_call: bool) -> str | None:
    if effort not in BUDGETS:
        return f"it takes none, {', '.join(BUDGETS)}"
    return "it cannot think before a call that 'tool_choice' demands" if must_call else None


def _budget(params: Params) -> int | None:
    """The tokens of the client's own `thinking`."""
    thinking = params.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) else None


def _budgeted(params: Params, model: str, budget: int, limit: int | None) -> tuple[dict[str, Any], int]:
    """The fields for a budget, which is part of `max_tokens` as OpenAI's reasoning is of `max_completion_tokens`."""
    if limit is None:
        limit = max_tokens(model, budget)
        budget = min(budget, limit - DEFAULT_MAX_TOKENS)
    if limit <= LEAST_BUDGET:
        params.refuse(
            "reasoning_effort", f"it needs at least {LEAST_BUDGET} tokens for thinking within max_completion_tokens"
        )
        return {}, limit
    return {"thinking": {"type": "enabled", "budget_tokens": min(budget, limit - 1)}}, limit
