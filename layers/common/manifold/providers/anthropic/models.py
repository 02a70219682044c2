"""Which parameters a Claude model accepts, by the version in its name, at any provider.

A name without a version (`claude-mythos-preview`) counts as newer than all versions.
https://platform.claude.com/docs/en/about-claude/models/overview
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

CLAUDE = re.compile(r"anthropic\.|claude", re.IGNORECASE)
VERSION = re.compile(
    r"claude-(?:(?:instant-)?v|(?:[a-z]+-)?)(?P<major>\d+)(?:[-.](?P<minor>\d{1,2})(?!\d))?", re.IGNORECASE
)


class Version(NamedTuple):
    """A version of Claude: `4.6`."""

    major: int
    minor: int


FIRST_ADAPTIVE = Version(4, 6)
FIRST_THAT_REFUSES_BOTH = Version(4, 1)
"""Both `temperature` and `top_p`: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html"""
FIRST_WITHOUT_SAMPLING = Version(4, 7)
"""https://platform.claude.com/docs/en/about-claude/models/migration-guide"""
MAX_TOKENS: Sequence[tuple[Version, int]] = (
    (Version(4, 6), 128_000),
    (Version(3, 7), 64_000),
    (Version(3, 5), 8_192),
    (Version(0, 0), 4_096),
)
"""The largest `max_tokens`, from each version on."""
OPUS = (Version(4, 0), Version(4, 5), 32_000)
"""From, before, and the limit: Opus 4 and 4.1 accept less."""


@lru_cache(maxsize=256)
def is_claude(model: str) -> bool:
    """Whether the name is that of a Claude model."""
    return CLAUDE.search(model) is not None


def is_adaptive(model: str) -> bool:
    """Whether the model takes an effort for thinking; earlier ones take a number of tokens."""
    version = _version(model)
    return version is None or version >= FIRST_ADAPTIVE


def takes_sampling(model: str) -> bool:
    """Whether the model accepts `temperature`, `top_p` and `top_k`. For one without a version, the provider decides."""
    version = _version(model)
    return version is None or version < FIRST_WITHOUT_SAMPLING


def takes_both(model: str) -> bool:
    """Whether the model accepts `temperature` and `top_p` together."""
    version = _version(model)
    return version is not None and version < FIRST_THAT_REFUSES_BOTH


def most_tokens(model: str) -> int:
    """The largest `max_tokens` of the model, thinking included."""
    version = _version(model)
    if version is None:
        return MAX_TOKENS[0][1]
    first, beyond, limit = OPUS
    if "opus" in model.lower() and first <= version < beyond:
        return limit
    return next(most for since, most in MAX_TOKENS if version >= since)


@lru_cache(maxsize=256)
def _version(model: str) -> Version | None:
    match = VERSION.search(model)
    return None if match is None else Version(int(match["major"]), int(match["minor"] or 0))
