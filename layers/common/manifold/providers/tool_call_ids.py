"""Ids of tool calls for a provider that takes other ids than the one that made them.

An id that the provider takes is kept. Any other is replaced by a digest of itself, which is the same in each request,
so that the provider's prompt cache stays valid, and which no other call of the conversation has.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count


@dataclass(frozen=True, slots=True)
class IdRule:
    """Which ids of tool calls a provider takes."""

    pattern: re.Pattern[str]
    prefix: str = "call_"
    digits: int = 24
    """Hexadecimal digits of the digest in a new id."""
    unique: bool = True
    """Whether the provider refuses a second call with the same id, which then gets a new one."""


ANY = IdRule(re.compile(r".*", re.DOTALL))
ANTHROPIC = IdRule(re.compile(r"[a-zA-Z0-9_-]+"))
"""https://platform.claude.com/docs/en/api/messages (`id` of `tool_use`)"""
BEDROCK = IdRule(re.compile(r"[a-zA-Z0-9_-]{1,64}"))
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html; that allows `.` and `:`, too,
which Claude and earlier versions of the API refuse."""
OPENAI = IdRule(re.compile(r".{0,40}", re.DOTALL), unique=False)
"""OpenAI's "string too long. Expected a string with maximum length 40"."""
MISTRAL = IdRule(re.compile(r"[a-zA-Z0-9]{9}"), prefix="", digits=9, unique=False)
"""Mistral's "must be a-z, A-Z, 0-9, with a length of 9"."""


class ToolCallIds:
    """The ids of one conversation by a rule. `ids` are all that it has.

    `calls` and `result` must be called in the order of the conversation.
    """

    def __init__(self, rule: IdRule, ids: Iterable[str]) -> None:
        self._rule = rule
        self._kept = {old for old in ids if rule.pattern.fullmatch(old)}
        self._used: set[str] = set()
        self._waiting: dict[str, list[str]] = {}
        """The new ids of the latest turn's calls that have no result yet, by the old id."""
        self._latest: dict[str, str] = {}
        """The latest new id for each old one."""

    def calls(self, ids: Sequence[str]) -> list[str]:
        """The new ids of one turn's calls, in the order of the old ones."""
        self._waiting = {}
        return [self._call(old) for old in ids]

    def result(self, old: str) -> str:
        """The new id of the call that a result belongs to. If several calls have one old id, each in turn."""
        waiting = self._waiting.get(old)
        if waiting:
            self._latest[old] = waiting.pop(0)
        return self._latest.get(old) or self._fitting(old)

    def _call(self, old: str) -> str:
        new = self._fitting(old)
        if self._rule.unique and new in self._used:
            new = self._unused(old)
        self._used.add(new)
        self._waiting.setdefault(old, []).append(new)
        self._latest[old] = new
        return new

    def _fitting(self, old: str) -> str:
        return old if self._rule.pattern.fullmatch(old) else self._latest.get(old) or self._unused(old)

    def _unused(self, old: str) -> str:
        candidates = (self._digest(f"{number}:{old}") for number in count())
        return next(one for one in candidates if one not in self._kept and one not in self._used)

    def _digest(self, text: str) -> str:
        return self._rule.prefix + sha256(text.encode()).hexdigest()[: self._rule.digits]
