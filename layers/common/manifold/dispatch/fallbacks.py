"""Which groups are tried after one that failed, or whose provider withheld its answer: pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from manifold.config import RouterSettings
from manifold.errors import ManifoldError
from manifold.provider_errors import CONTENT_FILTER, CONTENT_POLICY_CODES, CONTEXT_LENGTH_EXCEEDED, REQUEST_STATUSES


def fallbacks_for(settings: RouterSettings, group: str, error: ManifoldError) -> Sequence[str]:
    """The groups to try after one that failed with this error, in their order.

    They are those for this kind of failure, where any group has such, else those for any failure.
    """
    special: Mapping[str, Sequence[str]] = {}
    if error.code == CONTEXT_LENGTH_EXCEEDED:
        special = settings.context_window_fallbacks
    elif error.code in CONTENT_POLICY_CODES:
        special = settings.content_policy_fallbacks
    elif error.status in REQUEST_STATUSES:
        return ()
    if special:
        return _listed(special, group)
    return fallbacks_for_any(settings, group)


def fallbacks_for_any(settings: RouterSettings, group: str) -> Sequence[str]:
    """The groups to try after one that failed in a way that has no fallbacks of its own, in their order."""
    if not settings.fallbacks and not settings.default_fallbacks:
        return ()
    return _listed({"*": settings.default_fallbacks, **settings.fallbacks}, group)


def fallbacks_for_withheld(settings: RouterSettings, group: str) -> Sequence[str]:
    """The groups to try after one whose provider withheld its answer, in their order."""
    return _listed(settings.content_policy_fallbacks, group)


def is_withheld(answer: Mapping[str, Any]) -> bool:
    """Whether the provider withheld each choice of an answer, or its rest."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    return all(isinstance(choice, dict) and choice.get("finish_reason") == CONTENT_FILTER for choice in choices)


def _listed(configured: Mapping[str, Sequence[str]], group: str) -> Sequence[str]:
    """Those of the group, which may be none; those of `*` are for every group without its own."""
    return [name for name in configured.get(group, configured.get("*", ())) if name != group]
