"""The parameters of OpenAI's chat request, for adapters that translate each of them.

All adapters follow the same rules:

- A parameter that the adapter translates, it takes.
- A parameter with its default value is left out.
- Any other parameter of OpenAI's is an `InvalidRequest` that names it, or is left out with `drop_params`.
- A parameter that OpenAI does not have is the provider's own, and goes into the provider's body as it is. Where both
  sides fill the same object, the client's values win.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from manifold.errors import InvalidRequest
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.content_parts import Part, invalid_value
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
"""The default values of parameters, which ask for nothing."""
TAKEN_BY_ALL = frozenset({"messages", "model", "stream", "stream_options"})

BUDGETS: Mapping[str, int] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
"""Thinking tokens by `reasoning_effort`, for models that take a number of tokens instead."""


class Params:
    """The parameters of one request. Each is taken once; `rest` comes last."""

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
        """The parameter's value, without taking it. `None` if there is none."""
        return self._left.get(name)

    def take(self, name: str) -> Any:
        """Take the parameter: its value, `None` if the request has none or the default."""
        return self._left.pop(name, None)

    def take_first(self, *names: str) -> Any:
        """Take all of these, and return the value of the first that the request has: the others are its older names."""
        values = [self.take(name) for name in names]
        return next((value for value in values if value is not None), None)

    def effort(self) -> str | None:
        """Take `reasoning_effort`. Raises `InvalidRequest` if it is no text."""
        effort = self.take("reasoning_effort")
        if effort is not None and not isinstance(effort, str):
            raise invalid_value("reasoning_effort", "must be text, such as medium")
        return effort

    def token_limit(self) -> int | None:
        """Take `max_completion_tokens`, or its older name. Raises `InvalidRequest` if it is no whole number."""
        names = ("max_completion_tokens", "max_tokens")
        given = next((name for name in names if name in self), names[0])
        limit = self.take_first(*names)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise invalid_value(given, "must be a whole number")
        return limit

    def number(self, name: str, low: float, high: float) -> Any:
        """Take a number within the provider's bounds, which are narrower than OpenAI's."""
        value = self.take(name)
        if isinstance(value, int | float) and not low <= value <= high:
            self.refuse(name, f"it takes {low:g} to {high:g}")
            return None
        return value

    def stop(self, *, blanks: bool = True) -> Any:
        """Take `stop` as a list, whether it is a list or a single text. Empty texts are left out.

        Without `blanks`, a text of white space alone is refused.
        """
        value = self.take("stop")
        if not isinstance(value, str | list):
            return value
        texts = [text for text in ([value] if isinstance(value, str) else value) if text != ""]
        accepted = [text for text in texts if blanks or not isinstance(text, str) or text.strip()]
        if len(accepted) < len(texts):
            self.refuse("stop", "it takes no text of white space alone")
        return accepted or None

    def refuse(self, name: str, why: str) -> None:
        """Raise `InvalidRequest` for a parameter that cannot be translated, unless `drop_params` is set."""
        if not self.drops:
            raise unsupported(name, why)

    def refuse_extras(self, parts: Sequence[Part | Turn], known: frozenset[str] = frozenset()) -> None:
        """Refuse members of messages and parts that are another provider's own, such as `cache_control`."""
        for part in parts:
            for name in part.extra:
                if name not in known:
                    self.refuse(f"{part.path}.{name}", "only another provider has it")

    def rest(self) -> dict[str, Any]:
        """The provider's own fields. `refuse` those of OpenAI's parameters that nobody took."""
        left, self._left = self._left, {}
        for name in OPENAI.intersection(left):
            self.refuse(name, "its provider has no such parameter")
        return {name: value for name, value in left.items() if name not in OPENAI}


def unsupported(name: str, why: str) -> InvalidRequest:
    """The error for a parameter that cannot be translated; `why` is a sentence's end: "it takes 0 to 1"."""
    return InvalidRequest(
        f"'{name}' cannot be sent to this model: {why}. Leave it out, or let the gateway do so (drop_params).",
        param=name,
        code="unsupported_parameter",
    )


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Both objects in one, recursively. Where both have a value that is no object, that of `theirs` wins."""
    both = {
        name: merged(ours[name], value)
        for name, value in theirs.items()
        if isinstance(value, dict) and isinstance(ours.get(name), dict)
    }
    return {**ours, **theirs, **both}


def present(**values: Any) -> dict[str, Any]:
    """The arguments that are not `None`."""
    return {name: value for name, value in values.items() if value is not None}


def wants_usage(request: ProviderRequest) -> bool:
    """Whether the client wants the usage at the end of the stream (`stream_options.include_usage`)."""
    options = request.body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _is_default(name: str, value: object) -> bool:
    return name in DEFAULTS and value == DEFAULTS[name]
