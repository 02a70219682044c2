"""What Claude's models take, whoever serves them: Anthropic and Bedrock use these checks.

https://platform.claude.com/docs/en/about-claude/models/migration-guide
https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local.provider.refusal import Refusal

VERSION = re.compile(r"claude-[a-z]+-(\d+)(?:-(\d)(?!\d))?")
MAX_TOKENS = {"opus-4-1": 32_000, "sonnet-4-2": 64_000, "4-5": 64_000}
EMAIL = re.compile(r"\S+@\S+\.\S+")


def version(model: str) -> tuple[int, int]:
    """Major and minor version, by the model's name; `(4, 5)` if the name has none."""
    match = VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (4, 5)


def check_sampling(model: str, parameters: Mapping[str, Any], thinking: Mapping[str, Any] | None) -> None:
    """`parameters` have Anthropic's names."""
    given = {name: value for name, value in parameters.items() if value is not None}
    if version(model) >= (4, 7):
        for name, value in given.items():
            if (name, value) != ("temperature", 1):
                raise Refusal(400, None, f"`{name}` is deprecated for this model.")
    if "temperature" in given and "top_p" in given and version(model) >= (4, 1):
        words = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        raise Refusal(400, None, words)
    if thinking and thinking.get("type") in ("enabled", "adaptive"):
        _check_thinking(given)


def check_limit(model: str, limit: int | None, thinking: Mapping[str, Any] | None) -> None:
    most = next((most for name, most in MAX_TOKENS.items() if name in model), 128_000)
    if limit is not None and limit > most:
        words = f"max_tokens: {limit} > {most}, which is the maximum allowed number of output tokens for {model}"
        raise Refusal(400, None, words)
    if limit is not None and thinking and (thinking.get("budget_tokens") or 0) >= limit:
        raise Refusal(400, None, "`max_tokens` must be greater than `thinking.budget_tokens`")


def check_stops(stops: Sequence[str]) -> None:
    if not all(stop.strip() for stop in stops):
        raise Refusal(400, None, "stop_sequences: each stop sequence must contain non-whitespace")


def check_user(user: str | None) -> None:
    if user is not None and EMAIL.search(user):
        words = (
            "metadata.user_id: user_id appears to contain an email address. Please send a uuid or hash value instead"
        )
        raise Refusal(400, None, words)


def _check_thinking(given: Mapping[str, Any]) -> None:
    if given.get("temperature", 1) != 1:
        raise Refusal(400, None, "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if given.get("top_p", 1) < 0.95:
        raise Refusal(400, None, "`top_p` must be greater than or equal to 0.95 when thinking is enabled.")
    if "top_k" in given:
        raise Refusal(400, None, "`top_k` must be unset when thinking is enabled.")
