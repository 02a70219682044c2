"""How the simulated provider counts the tokens that a file holds of a quota."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from local.provider.completion_objects import Stamp
from local.provider.lenient_json import loads
from local.provider.line_answers import answer_line
from local.provider.lines import BOM, normal_url, raw_lines, usage_tokens
from local.provider.refusal import Refusal

TokenRule = Literal["bytes", "usage", "estimate"]
"""`bytes`: a quarter of each line's bytes without its end, rounded up. `usage`: the input tokens that each line's
answer will state. `estimate`: the gateway's own estimate of each line's body, all of them read."""


def file_tokens(path: Path, rule: TokenRule, dialect: str) -> int:
    """The tokens of all lines. A line that cannot be read, or is refused when it is answered, has none."""
    return sum(RULES[rule](raw, dialect) for raw in raw_lines(path))


def line_bytes(raw: bytes, dialect: str = "") -> int:
    return (len(raw.rstrip(b"\r\n")) + 3) // 4


def _usage(raw: bytes, dialect: str) -> int:
    try:
        line = loads(raw.removeprefix(BOM))
        body = answer_line(normal_url(line["url"]), line["body"], dialect, Stamp("", 0))
    except (ValueError, LookupError, TypeError, Refusal):
        return 0
    return usage_tokens(body["usage"])[0]


def _estimate(raw: bytes, dialect: str) -> int:
    # The program also runs where the gateway's code is not.
    from manifold.jsonl.token_estimate import request_tokens

    try:
        return request_tokens(loads(raw.removeprefix(BOM))["body"])
    except (ValueError, LookupError, TypeError):
        return 0


RULES: Mapping[TokenRule, Callable[[bytes, str], int]] = {"bytes": line_bytes, "usage": _usage, "estimate": _estimate}
