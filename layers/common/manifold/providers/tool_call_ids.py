"""The ids of tool calls, where a conversation goes on at a provider that would not have made them.

An id that the provider takes stays as it is. Any other becomes a digest of itself: the same in each request, so that
what the provider has cached of the conversation stays valid, and never one that the conversation has already.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count


@dataclass(frozen=True, slots=True)
class IdRule:
    """What a provider takes for a tool call's id."""

    fits: re.Pattern[str]
    prefix: str = "call_"
    digits: int = 24
    """Of the digest in an id that is made here."""
    unique: bool = True
    """Whether a second call of the same id is refused: it gets another one then."""


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
    """The ids of one conversation, given out turn by turn. `ids` are all that it has."""

    def __init__(self, rule: IdRule, ids: Iterable[str]) -> None:
        self._rule = rule
        self._taken = {known for known in ids if rule.fits.fullmatch(known)}
        self._given: set[str] = set()
        self._waiting: dict[str, list[str]] = {}
        """The ids given out for the newest turn's calls that have no result yet, by the ids that they came with."""
        self._last: dict[str, str] = {}

    def calls(self, ids: Sequence[str]) -> list[str]:
        """The ids of one turn's calls."""
        self._waiting = {}
        return [self._call(known) for known in ids]

    def result(self, known: str) -> str:
        """The id of the call that a result is of: of several calls with one id, each in turn."""
        waiting = self._waiting.get(known)
        if waiting:
            self._last[known] = waiting.pop(0)
        return self._last.get(known) or self._fitting(known)

    def _call(self, known: str) -> str:
        given = self._fitting(known)
        if self._rule.unique and given in self._given:
            given = self._made(known)
        self._given.add(given)
        self._waiting.setdefault(known, []).append(given)
        self._last[known] = given
        return given

    def _fitting(self, known: str) -> str:
        return known if self._rule.fits.fullmatch(known) else self._last.get(known) or self._made(known)

    def _made(self, known: str) -> str:
        made = (self._digest(f"{number}:{known}") for number in count())
        return next(one for one in made if one not in self._taken and one not in self._given)

    def _digest(self, text: str) -> str:
        return self._rule.prefix + sha256(text.encode()).hexdigest()[: self._rule.digits]
