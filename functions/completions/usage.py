"""The usage of a stream: had from every provider that would tell it, shown to those who asked."""

from collections.abc import Mapping
from typing import Any

from manifold.config import Deployment

TELLING = frozenset(
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
"""Of a prompt, for one token: the rule of thumb of OpenAI's own for English."""

Chunk = dict[str, Any]


def is_requested(body: Mapping[str, Any]) -> bool:
    """Whether the client asked for the chunk that tells the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def metered(body: Mapping[str, Any], deployment: Deployment) -> Mapping[str, Any]:
    """The body that has the deployment tell the usage, too, if it can."""
    options = body.get("stream_options") or {}
    if deployment.provider not in TELLING or is_requested(body) or not isinstance(options, dict):
        return body
    return {**body, "stream_options": {**options, "include_usage": True}}


def is_only_usage(chunk: Chunk) -> bool:
    """Whether a chunk is the one that clients get for `stream_options.include_usage` alone."""
    return not chunk.get("choices") and chunk.get("usage") is not None


def pieces(chunk: Chunk) -> int:
    """How many choices a chunk adds to: as many tokens came at least."""
    return sum(1 for choice in chunk.get("choices") or () if choice.get("text") or _has_content(choice))


def estimated(body: Mapping[str, Any], pieces: int = 0) -> dict[str, Any]:
    """The usage of a call whose provider did not tell it: a token for some letters of the prompt, and for each piece
    that came."""
    return {
        "prompt_tokens": -(-sum(_letters(body.get(name)) for name in PROMPT) // LETTERS),
        "completion_tokens": pieces,
    }


def of_answer(body: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """The usage that a whole answer tells or, where it tells none, an estimate by its letters and the prompt's."""
    contents = [choice.get("message") or choice.get("text") for choice in answer.get("choices") or ()]
    texts = [{**one, "role": None} if isinstance(one, dict) else one for one in contents]
    usage: dict[str, Any] = answer.get("usage") or estimated(body, -(-_letters(texts) // LETTERS))
    return usage


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
