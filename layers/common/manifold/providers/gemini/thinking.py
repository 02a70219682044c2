"""Gemini's parameters for thinking: models from version 3 on take a level, earlier ones a number of tokens.

The numbers are Google's own: https://ai.google.dev/gemini-api/docs/openai#thinking
"""

import re
from collections.abc import Mapping
from typing import Any

from manifold.providers.parameters import Params

VERSION = re.compile(r"gemini-(\d+)")
FIRST_WITH_LEVELS = 3
LEVELS: Mapping[str, str] = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high"}
BUDGETS: Mapping[str, int] = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}


def take_thinking(params: Params, model: str) -> dict[str, Any] | None:
    """The `thinkingConfig` for `reasoning_effort`; `None` if the request has none."""
    effort = params.effort()
    if effort is None:
        return None
    version = VERSION.search(model)
    by_level = version is None or int(version[1]) >= FIRST_WITH_LEVELS
    accepted: Mapping[str, object] = LEVELS if by_level else BUDGETS
    if effort not in accepted:
        params.refuse("reasoning_effort", f"it takes {', '.join(accepted)}")
        return None
    if not by_level:
        return {"thinkingBudget": BUDGETS[effort]}
    # The larger models have no level below low.
    return {"thinkingLevel": "low" if effort == "minimal" and "-pro" in model else LEVELS[effort]}
