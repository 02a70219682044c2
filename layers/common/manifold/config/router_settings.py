"""How completions are routed, as the rest of Manifold sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from manifold.routing import Strategy

FALLBACKS_BY_GROUP = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""The settings that name fallbacks of single groups."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Names are those of `router_settings`; the values left out are LiteLLM's."""

    routing_strategy: Strategy = "simple-shuffle"
    num_retries: int = 2
    timeout: float | None = None
    """Seconds for one call to a provider."""
    stream_timeout: float | None = None
    """Seconds until a stream's first token, and between any two of its chunks; `None`: as `timeout`."""
    retry_after: float = 0.0
    """Seconds to wait at least before a deployment is asked again."""
    allowed_fails: int | None = None
    """Failures within a minute after which a deployment is still asked; `None`: as LiteLLM does without it."""
    cooldown_time: float = 5.0
    """Seconds of a deployment's cooldown."""
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each model group, those that are asked in its place when it fails."""
    context_window_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those that are asked when the prompt is too long for it."""
    content_policy_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those that are asked when its provider refuses what the prompt says, or withholds the answer."""
    default_fallbacks: tuple[str, ...] = ()
    """Those that are asked for a group that `fallbacks` does not have."""
    enforce_fallback_model_access: bool = False
    """Ask no group in another's place that the caller could not have asked for."""
    drop_params: bool = False
    """Leave out parameters that a provider cannot take, instead of refusing the request."""
