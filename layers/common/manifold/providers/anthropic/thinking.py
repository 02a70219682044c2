"""How Claude is told how hard to think, wherever it runs.

From 4.6 on a model decides by itself, guided by an effort; those before take a number of tokens.
https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
"""

import re
from collections.abc import Mapping
from typing import Any

from manifold.providers.asked import BUDGETS, Params

VERSION = re.compile(r"claude-(?:[a-z]+-)?(?P<major>\d+)(?:[-.](?P<minor>\d{1,2})(?!\d))?")
FIRST_ADAPTIVE = (4, 6)
LEAST_BUDGET = 1_024
DEFAULT_MAX_TOKENS = 8_192
"""Anthropic requires a limit where OpenAI has none. Thinking comes on top of it."""


def take_thinking(params: Params, model: str) -> tuple[dict[str, Any], int]:
    """The request's fields for `reasoning_effort`, and the `max_tokens` that goes with them."""
    limit = params.take_first("max_completion_tokens", "max_tokens")
    effort = params.take("reasoning_effort")
    most = DEFAULT_MAX_TOKENS if limit is None else limit
    if effort is None:
        return {}, most
    if effort == "none":
        return {"thinking": {"type": "disabled"}}, most
    if effort not in BUDGETS:
        params.refuse("reasoning_effort", f"it takes none, {', '.join(BUDGETS)}")
        return {}, most
    if is_adaptive(model):
        level = "low" if effort == "minimal" else effort
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": level}}, most
    return _budgeted(params, BUDGETS[effort], limit)


def is_signed(block: Mapping[str, Any]) -> bool:
    """Whether Claude takes a block of `thinking_blocks` back: one whose signature is missing, it refuses."""
    return bool(block.get("signature" if block.get("type") == "thinking" else "data"))


def is_adaptive(model: str) -> bool:
    """Whether the model takes an effort. One without a version in its name is newer than those that had one."""
    version = VERSION.search(model)
    return version is None or (int(version["major"]), int(version["minor"] or 0)) >= FIRST_ADAPTIVE


def _budgeted(params: Params, budget: int, limit: int | None) -> tuple[dict[str, Any], int]:
    """The budget lies within `max_tokens`, as OpenAI's reasoning does within `max_completion_tokens`."""
    if limit is None:
        limit = budget + DEFAULT_MAX_TOKENS
    if limit <= LEAST_BUDGET:
        params.refuse(
            "reasoning_effort", f"it thinks with {LEAST_BUDGET} tokens at least, within max_completion_tokens"
        )
        return {}, limit
    return {"thinking": {"type": "enabled", "budget_tokens": min(budget, limit - 1)}}, limit
