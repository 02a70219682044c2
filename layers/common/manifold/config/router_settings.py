"""`router_settings` of `config.yaml`: how completions are routed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from manifold.routing import Strategy

FALLBACKS_BY_GROUP = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""The settings that name fallbacks of single groups."""
_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class RouterSettings(NamedTuple):
    """Names are those of `router_settings`; the values left out are LiteLLM's."""

    routing_strategy: Strategy = "simple-shuffle"
    num_retries: int = 2
    timeout: float | None = None
    """Seconds for one call to a provider."""
    stream_timeout: float | None = None
    """Seconds until a stream's first token, and between any two of its chunks; `None`: as `timeout`."""
    retry_after: float = 0.0
    """Seconds to wait at least before a deployment is tried again."""
    allowed_fails: int | None = None
    """Failures within a minute that put no deployment into cooldown; `None`: as LiteLLM does without it."""
    cooldown_time: float = 5.0
    """Seconds for which a deployment that failed too often is not chosen."""
    fallbacks: Mapping[str, tuple[str, ...]] = _NONE
    """The groups that are tried, in their order, when a group fails."""
    context_window_fallbacks: Mapping[str, tuple[str, ...]] = _NONE
    """The same, when the prompt is too long for it."""
    content_policy_fallbacks: Mapping[str, tuple[str, ...]] = _NONE
    """The same, when its provider refuses the prompt's content, or withholds the answer."""
    default_fallbacks: tuple[str, ...] = ()
    """Those of a group that `fallbacks` does not name."""
    enforce_fallback_model_access: bool = False
    """Skip a fallback that the caller may not use itself."""
    drop_params: bool = False
    """Leave out a parameter that a provider cannot take, instead of refusing the request."""
