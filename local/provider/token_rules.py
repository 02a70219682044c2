"""How the simulated provider counts the tokens that a file holds of a quota."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from local.provider.completion_objects import Stamp
from local.provider.line_shape import LineShape, Problem
from local.provider.lines import raw_lines
from local.provider.refusal import Refusal

TokenRule = Literal["bytes", "usage", "estimate"]
"""`bytes`: a quarter of each line's bytes without its end, rounded up. `usage`: the input tokens that each line's
answer will state. `estimate`: the gateway's own estimate of each line's body, all of them read."""


def file_tokens(path: Path, rule: TokenRule, shape: LineShape) -> int:
    """The tokens of all lines. A line that cannot be read, or is refused when it is answered, has none."""
    return sum(RULES[rule](raw, shape) for raw in raw_lines(path))


def line_bytes(raw: bytes, shape: LineShape | None = None) -> int:
    return (len(raw.rstrip(b"\r\n")) + 3) // 4


def _usage(raw: bytes, shape: LineShape) -> int:
    try:
        return shape.answer(shape.read(raw), Stamp("", 0)).input_tokens
    except (Problem, LookupError, TypeError, Refusal):
        return 0


def _estimate(raw: bytes, shape: LineShape) -> int:
    # The program also runs where the gateway's code is not.
    from manifold.jsonl.token_estimate import request_tokens

    try:
        return request_tokens(shape.read(raw).body)
    except (Problem, LookupError, TypeError):
        return 0


Rule = Callable[[bytes, LineShape], int]
RULES: Mapping[TokenRule, Rule] = {"bytes": line_bytes, "usage": _usage, "estimate": _estimate}
