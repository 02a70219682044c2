"""What a provider says, made fit for who made the request: one scrub for all of it, wherever it is shown or kept.

Nothing tells where the request went: no address, no key (nor what a mask leaves of it), no id of the provider's, no
account, no deployment's name. All is found in one pass, ids before names, so that no replacement is replaced again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HIDDEN = "***"
LONGEST_TEXT = 500
LONGEST_READ = 4_000
"""Characters of a provider's text that are looked at."""
SHORTEST_SECRET = 8
"""A value of fewer characters is no credential; taking it out would garble the text."""
LONG_REF = 16
"""An id of the provider's of so many characters is found within a word, too."""
LONG_SECRET = 16
"""From so many characters on, the first or last eight are taken out, too: some APIs quote a part of the key."""
FLAGS = re.IGNORECASE | re.ASCII
"""A name ends where its script does: Chinese and Japanese have no spaces."""
PLAIN_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
ORDINARY = re.compile(r"[A-Za-z]+")
"""A model's name that may as well be a word of the sentence, as `batch` is."""
_ABOUT_A_MODEL = r"\b(?:models?|deployments?|engines?)(?: (?:name|id|named|called))?[\s'\"`:=/(]+"
SNAPSHOT = r"(?:-20\d\d-?\d\d-?\d\d)?"
"""The date that a provider may add to the model's name."""

_DOMAINS = "com|net|org|io|ai|dev|cloud|app|cn|local|localdomain|internal|intranet|corp|lan|svc|cluster"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID_CHARACTERS = r"(?:[\w*…-]|\.(?=[\w*.]))"
_LIKE_AN_ID = rf"(?=[\w*…-]*(?:[0-9*…]|(?-i:[a-z][A-Z]))){_ID_CHARACTERS}{{6,}}"
_PATTERNS = (
    r"(?:[a-z][a-z0-9+]*://|arn:aws)[^\s'\"<>)\]]+",
    r"/?(?:subscriptions|resourceGroups|providers/Microsoft)[/.][^\s'\"<>)\]]+",
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    rf"(?<![\w.-])(?:[a-z0-9-]+\.)+(?:{_DOMAINS})(?![\w-])(?::\d+)?(?:/[^\s'\"<>)\]]*)?",
    r"(?<![\w-])(?:\w+-)*(?:host|node|pod|server|proxy|worker|vm|ip)-(?:\w+-)*\w*\d\w*(?![\w-])",
    r"(?<![\w.-])localhost(?::\d+)?(?![\w-])",
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w]|\.\d)",
    r"(?<![\w:])(?:(?:[0-9a-f]{1,4}:){5,7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:)+:(?:[0-9a-f]{1,4}:?)*"
    r"|::[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)(?!\w)",
    rf"(?<![A-Za-z0-9])(?:sk|pk|gsk|xai|org|proj|req|key)[-_]{_ID_CHARACTERS}{{6,}}",
    rf"(?<![A-Za-z0-9])(?:file|batch|msgbatch|job|ftjob|resp|chatcmpl|cmpl|asst|run|thread|msg|user|acct|ws|vs|trace|call)"
    rf"[-_]{_LIKE_AN_ID}",
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AIza|ya29\.|eyJ)[\w.-]{10,}",
    r"(?<=Bearer )\S+",
    r"[\w-]{0,24}\*{3,}[\w-]{0,24}",
)
_KNOWN = "|".join(_PATTERNS)
_ACCOUNT = (
    r"(?P<account>\b(?:organi[sz]ation|project|account|subscription|tenant|resource|workspace"
    r"|(?:request|correlation|activity|trace|session|operation|apim)[ _-]?id)"
    rf"(?: (?:id|name|number|group))?[ '\"`:=(#]+)(?:{_UUID}|[\w.-]*\d[\w-]*)"
)
"""An account or a request that is named by a number or a UUID: which a caller's own `custom_id` may be, too."""


@dataclass(frozen=True, slots=True)
class Scrubber:
    """What must not be told of one deployment, and what is said in its place."""

    host: str = ""
    secrets: Sequence[str] = field(default=(), repr=False)
    model: str = ""
    """The provider's name of the model or deployment."""
    shown_as: str = HIDDEN
    """What is said in its place."""
    uuids: bool = False
    """Whether each UUID is the provider's: a line's `custom_id` may be one, a prompt's words are none."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Ids of the provider's that we have ids of our own for."""

    def text(self, words: str, longest: int = LONGEST_TEXT) -> str:
        """The words without any of it, on one line, and of so many characters at most."""
        told = self._pattern().sub(self._instead, plain(words[:LONGEST_READ]))
        return told[:longest].rstrip()

    def word(self, value: object) -> str | None:
        """A code or the name of a parameter: short and of plain characters, or `None`."""
        told = self.text(value) if isinstance(value, str) else ""
        return told if PLAIN_WORD.fullmatch(told) else None

    def _instead(self, found: re.Match[str]) -> str:
        if found["own"]:
            return self._ours().get(found["own"].casefold(), HIDDEN)
        if found["account"]:
            return found["account"] + HIDDEN
        if found["model"]:
            return (found["before"] or "") + self.shown_as
        return HIDDEN

    def _ours(self) -> dict[str, str]:
        """They are found in upper and lower case alike."""
        return {theirs.casefold(): ours for theirs, ours in self.own.items()}

    def _pattern(self) -> re.Pattern[str]:
        own = _any(self.own) and rf"(?<![\w-]){_any(self.own)}(?![\w-])"
        if long := _any([ref for ref in self.own if len(ref) >= LONG_REF]):  # also within a word
            own += "|" + long
        uuids = [rf"(?<!\w){_UUID}(?!\w)"] if self.uuids else []
        parts = [f"(?P<own>{own or '(?!)'})", *self._secrets(), _ACCOUNT, _KNOWN, *uuids, *self._hosts()]
        return re.compile("|".join([*parts, f"(?P<model>{self._model()})"]), FLAGS)

    def _secrets(self) -> list[str]:
        known = [secret for secret in self.secrets if len(secret) >= SHORTEST_SECRET]
        parts = [secret for secret in known if len(secret) >= LONG_SECRET]
        heads = [rf"(?<![\w-]){re.escape(secret[:8])}[\w*.…-]*" for secret in parts]
        tails = [rf"[\w*.…-]*{re.escape(secret[-8:])}(?![\w-])" for secret in parts]
        return [*map(re.escape, known), *heads, *tails]

    def _hosts(self) -> list[str]:
        """The host and, at Azure, the name of the resource, which is the host's first."""
        if not self.host:
            return []
        names = [self.host]
        first, _, rest = self.host.partition(".")
        if rest.endswith(("azure.com", "azure-api.net", "windows.net", "azure.us", "azure.cn")):
            names.append(first)
        return [rf"(?<![\w-]){_any(names)}(?![\w-])(?::\d+)?"]

    def _model(self) -> str:
        """The model as a whole word; one that is an ordinary word, where the sentence speaks of a model."""
        if not self.model:
            return "(?P<before>(?!))"
        name = re.escape(self.model)
        if ORDINARY.fullmatch(self.model):
            return rf"(?P<before>{_ABOUT_A_MODEL}|(?<!purpose )['\"`]){name}(?![\w-]|\.\w)"
        return rf"(?P<before>)(?<![\w.-]){name}{SNAPSHOT}(?![\w-]|\.\w)"


def plain(text: str) -> str:
    """The text on one line, without control characters and half surrogate pairs, which no row and no answer takes."""
    whole = text.encode(errors="ignore").decode()
    return " ".join("".join(one if one.isprintable() else " " for one in whole).split())


def _any(names: Sequence[str] | Mapping[str, str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")" if names else ""
