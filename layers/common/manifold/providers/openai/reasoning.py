"""What OpenAI's reasoning models do not take of a request's sampling, wherever they are spoken to in OpenAI's words.

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
"""Each with its default, which they take."""
AT_REST = re.compile(r"(?:^|/)gpt-5\.[1-4](?!-(?:pro|chat|codex))(?=-|$)")
"""They do not reason unless they are told to."""


def without_sampling(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body as such a model takes it; that of any other model as it is."""
    if not _reasons(body.get("reasoning_effort"), model):
        return dict(body)
    return {name: value for name, value in body.items() if name not in SAMPLING or value in (None, SAMPLING[name])}


def _reasons(effort: object, model: str) -> bool:
    """A model that does not reason this time samples as any other does."""
    if REASONING.search(model) is None or effort == "none":
        return False
    return effort is not None or AT_REST.search(model) is None
