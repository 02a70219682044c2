"""OpenAI's chat request, parameter by parameter, for adapters that must put each into other words.

Every adapter follows the same rule. What it translates, it takes. What says no more than the default does is left out.
What else is OpenAI's is an `InvalidRequest` that names it, or left out with `drop_params`. What is not OpenAI's is the
provider's own, and goes into the provider's body as it is; where both sides fill one object, the caller's words win.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from manifold.errors import InvalidRequest
from manifold.providers.chat import ProviderRequest
from manifold.providers.content_parts import Part
from manifold.providers.conversation import Turn

OPENAI = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
        "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
        "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
"""The parameters of https://platform.openai.com/docs/api-reference/chat/create."""
DEFAULTS: Mapping[str, Any] = {
    "frequency_penalty": 0, "function_call": "none", "functions": [], "logit_bias": {}, "logprobs": False,
    "metadata": {}, "modalities": ["text"], "n": 1, "parallel_tool_calls": True, "presence_penalty": 0,
    "response_format": {"type": "text"}, "service_tier": "auto", "stop": [], "store": False, "tool_choice": "auto",
    "tools": [], "top_logprobs": 0, "verbosity": "medium",
}  # fmt: skip
"""What a parameter says when it asks for nothing."""
TAKEN_BY_ALL = frozenset({"messages", "model", "stream", "stream_options"})

BUDGETS: Mapping[str, int] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
"""Tokens to think with, for models that take a number where OpenAI's take a `reasoning_effort`."""


class Params:
    """The parameters of one request, each to be taken once; `rest` ends the taking."""

    def __init__(self, request: ProviderRequest) -> None:
        self.drops = request.drop_params
        self._left = {
            name: value
            for name, value in request.body.items()
            if name not in TAKEN_BY_ALL and value is not None and not _is_default(name, value)
        }

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def get(self, name: str) -> Any:
        """The parameter's value, which stays to be taken."""
        return self._left.get(name)

    def take(self, name: str) -> Any:
        """The parameter's value, `None` where the request has none or its default."""
        return self._left.pop(name, None)

    def take_first(self, *names: str) -> Any:
        """The value of the first of these that the request has; the others say the same in older words."""
        values = [self.take(name) for name in names]
        return next((value for value in values if value is not None), None)

    def number(self, name: str, low: float, high: float) -> Any:
        """A number within the provider's bounds, which are narrower than OpenAI's."""
        value = self.take(name)
        if isinstance(value, int | float) and not low <= value <= high:
            self.refuse(name, f"it takes {low:g} to {high:g}")
            return None
        return value

    def stop(self, *, blanks: bool = True) -> Any:
        """`stop` as a list, whether it was one or a single text. An empty text ends nothing; see `blanks` for space."""
        value = self.take("stop")
        if not isinstance(value, str | list):
            return value
        texts = [text for text in ([value] if isinstance(value, str) else value) if text != ""]
        said = [text for text in texts if blanks or not isinstance(text, str) or text.strip()]
        if len(said) < len(texts):
            self.refuse("stop", "it takes no text of white space alone")
        return said or None

    def refuse(self, name: str, why: str) -> None:
        """Raise `InvalidRequest` for what cannot be translated, unless such things are to be dropped."""
        if not self.drops:
            raise InvalidRequest(
                f"'{name}' cannot be given to this model: {why}. Leave it out, or let the gateway do so (drop_params).",
                param=name,
                code="unsupported_parameter",
            )

    def refuse_extras(self, parts: Sequence[Part | Turn], known: frozenset[str] = frozenset()) -> None:
        """Refuse what messages and their parts have of another provider's own, such as `cache_control`."""
        for part in parts:
            for name in part.extra.keys() - known:
                self.refuse(f"{part.path}.{name}", "it is another provider's own")

    def rest(self) -> dict[str, Any]:
        """The provider's own fields: what nobody took, and is not OpenAI's."""
        left, self._left = self._left, {}
        for name in OPENAI.intersection(left):
            self.refuse(name, "its provider has nothing that means the same")
        return {name: value for name, value in left.items() if name not in OPENAI}


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Both objects in one, and likewise each object that both have; else `theirs` wins."""
    both = {
        name: merged(ours[name], value)
        for name, value in theirs.items()
        if isinstance(value, dict) and isinstance(ours.get(name), dict)
    }
    return {**ours, **theirs, **both}


def present(**values: Any) -> dict[str, Any]:
    """These members without those that are `None`."""
    return {name: value for name, value in values.items() if value is not None}


def wants_usage(request: ProviderRequest) -> bool:
    """Whether a stream is to end with the usage."""
    options = request.body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _is_default(name: str, value: object) -> bool:
    return name in DEFAULTS and value == DEFAULTS[name]
