"""The tokens that a call took: read from the provider's answer, requested in a stream, or estimated."""

from collections.abc import Mapping
from typing import Any

from manifold import storable
from manifold.config import Deployment
from manifold.prices import Tokens, billed_output

REPORTS_IN_STREAMS = frozenset(
    {
        "anthropic",
        "azure",
        "bedrock",
        "cohere",
        "deepseek",
        "gemini",
        "groq",
        "hosted_vllm",
        "openai",
        "vertex_ai",
        "vllm",
    }
)
"""Providers that are known to take `stream_options.include_usage`; another server might refuse it."""

PROMPT = ("messages", "prompt", "input", "tools")
FILES = frozenset({"data", "file_data", "url"})
"""Members whose text is a file, or where one is."""
LETTERS = 4
"""Letters of a prompt for one token: OpenAI's own rule of thumb for English."""

Chunk = dict[str, Any]


def tokens_of(usage: Mapping[str, Any]) -> Tokens:
    """The tokens of OpenAI's usage object, as far as it can be read and is plausible: never fewer than none."""
    cache = _part(usage, "prompt_tokens_details")
    prompt, output = storable.count(usage.get("prompt_tokens")), storable.count(usage.get("completion_tokens"))
    reasoning = storable.count(_part(usage, "completion_tokens_details").get("reasoning_tokens"))
    output = billed_output(prompt, output, reasoning, storable.count(usage.get("total_tokens")))
    return Tokens(
        prompt,
        output,
        cached=storable.count(cache.get("cached_tokens")),
        written=storable.count(cache.get("cache_write_tokens")),
        written_1h=storable.count(cache.get("cache_write_1h_tokens")),
        reasoning=min(reasoning, output),
    )


def is_requested(body: Mapping[str, Any]) -> bool:
    """Whether a stream's client has requested the chunk that has the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def requesting_usage(body: Mapping[str, Any], deployment: Deployment) -> Mapping[str, Any]:
    """A stream's body that asks for the usage, too, if the deployment's provider is known to take that."""
    options = body.get("stream_options") or {}
    if deployment.provider not in REPORTS_IN_STREAMS or is_requested(body) or not isinstance(options, dict):
        return body
    return {**body, "stream_options": {**options, "include_usage": True}}


def is_only_usage(chunk: Chunk) -> bool:
    """Whether a chunk is the one that clients get for `stream_options.include_usage` alone."""
    return not chunk.get("choices") and chunk.get("usage") is not None


def pieces(chunk: Chunk) -> int:
    """How many choices a chunk adds to: at least as many tokens came with it."""
    return sum(1 for choice in chunk.get("choices") or () if choice.get("text") or _has_content(choice))


def has_token(chunk: Chunk) -> bool:
    """Whether a chunk holds more of an answer than that there will be one."""
    return pieces(chunk) > 0 or any(choice.get("finish_reason") for choice in chunk.get("choices") or ())


def estimated(body: Mapping[str, Any], pieces: int = 0) -> dict[str, Any]:
    """The usage of a call whose provider sent none: a token for some letters of the prompt, and for each piece that
    came."""
    return {
        "prompt_tokens": -(-sum(_letters(body.get(name)) for name in PROMPT) // LETTERS),
        "completion_tokens": pieces,
    }


def usage_of(body: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """The usage in a whole answer or, where it has none, an estimate by its letters and the prompt's."""
    reported: dict[str, Any] | None = answer.get("usage")
    if reported:
        return reported
    contents = [choice.get("message") or choice.get("text") for choice in answer.get("choices") or ()]
    texts = [{**one, "role": None} if isinstance(one, dict) else one for one in contents]
    return estimated(body, -(-_letters(texts) // LETTERS))


def _letters(prompt: object) -> int:
    """The length of all texts in it; a number is a token already, and a file is no text."""
    count, parts = 0, [prompt]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            count += 0 if part.startswith("data:") else len(part)
        elif isinstance(part, int):
            count += LETTERS
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += [value for name, value in part.items() if name not in FILES]
    return count


def _has_content(choice: Chunk) -> bool:
    return any(value for name, value in (choice.get("delta") or {}).items() if name != "role")


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = of.get(name)
    return part if isinstance(part, dict) else {}
