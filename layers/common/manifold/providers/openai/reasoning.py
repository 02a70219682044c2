"""Sampling parameters that OpenAI's reasoning models refuse, at any server of OpenAI's API.

https://platform.openai.com/docs/guides/latest-model
"""

import re
from collections.abc import Mapping
from typing import Any

REASONING = re.compile(r"(?:^|/)(?:o\d+|(?!gpt-5-chat)gpt-[5-9](?:\.\d+)?)(?=-|$)")
SAMPLING: Mapping[str, Any] = {
    "temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False,
    "top_logprobs": 0, "logit_bias": {},
}  # fmt: skip
"""Each with its default value, which they accept."""
WITHOUT_REASONING_BY_DEFAULT = re.compile(r"(?:^|/)gpt-5\.[1-4](?!-(?:pro|chat|codex))(?=-|$)")
"""Models that reason only if `reasoning_effort` is set."""


def without_sampling(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body without sampling parameters, if the model reasons in this request. Defaults and nulls stay."""
    if not _reasons(body.get("reasoning_effort"), model):
        return dict(body)
    return {name: value for name, value in body.items() if name not in SAMPLING or value in (None, SAMPLING[name])}


def _reasons(effort: object, model: str) -> bool:
    """Whether the model reasons with this `reasoning_effort`."""
    if REASONING.search(model) is None or effort == "none":
        return False
    return effort is not None or WITHOUT_REASONING_BY_DEFAULT.search(model) is None
