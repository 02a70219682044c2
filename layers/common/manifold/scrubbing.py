"""Scrubs a provider's message, so that the client may read it. The one scrubber for all that is shown or stored.

It removes all that tells where the request went: URLs, hosts, keys (also masked ones), the provider's ids, accounts and
the deployment's name. One pass finds all, ids before names, so that no replacement is replaced again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HIDDEN = "***"
LONGEST_TEXT = 500
LONGEST_READ = 4_000
"""Characters of a provider's message that are read."""
SHORTEST_SECRET = 8
"""Characters. A shorter value is no credential, and removing it would garble the text."""
LONG_REF = 16
"""Characters from which on a provider's id is found within a word, too."""
LONG_SECRET = 16
"""Characters from which on the first and last eight are removed, too: some APIs quote a part of the key."""
FLAGS = re.IGNORECASE | re.ASCII
"""With ASCII, a name ends where its script does: Chinese and Japanese have no spaces."""
PLAIN_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
ORDINARY = re.compile(r"[A-Za-z]+")
"""A model's name that may be an ordinary word of the sentence, such as `batch`."""
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
"""An account or a request by its number or UUID. Not any UUID: a client's `custom_id` may be one."""
_RESOURCE = r"(?<![\w-])(?:projects|accounts|publishers)/[^\s'\"<>)\]]+"
"""A resource of Google's or of Fireworks', by its path. The model itself may be one."""


@dataclass(frozen=True, slots=True)
class Scrubber:
    """What is removed from the messages of one deployment, and what replaces it."""

    host: str = ""
    secrets: Sequence[str] = field(default=(), repr=False)
    model: str = ""
    """The provider's name of the model or deployment."""
    shown_as: str = HIDDEN
    """What replaces `model`."""
    uuids: bool = False
    """Whether all UUIDs are removed. In messages about a batch they may be a line's `custom_id`."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Ids of the provider's, each with our own id, which replaces it, and the last part of a path alone."""

    def text(self, message: str, longest: int = LONGEST_TEXT) -> str:
        """The scrubbed message, on one line, of `longest` characters at most."""
        scrubbed = self._pattern().sub(self._replacement, plain(message[:LONGEST_READ]))
        return scrubbed[:longest].rstrip()

    def word(self, value: object) -> str | None:
        """A scrubbed code or parameter name. `None` if it is not a short text of plain characters."""
        scrubbed = self.text(value) if isinstance(value, str) else ""
        return scrubbed if PLAIN_WORD.fullmatch(scrubbed) else None

    def _replacement(self, match: re.Match[str]) -> str:
        if match["own"]:
            return self._our_ids().get(match["own"].casefold(), HIDDEN)
        if match["account"]:
            return match["account"] + HIDDEN
        if match["model"]:
            return (match["before"] or "") + self.shown_as
        return HIDDEN

    def _our_ids(self) -> dict[str, str]:
        """Our ids by the provider's in lower case: patterns ignore case."""
        last = {theirs.rpartition("/")[2]: ours for theirs, ours in self.own.items()}
        return {theirs.casefold(): ours for theirs, ours in {**last, **self.own}.items() if theirs}

    def _pattern(self) -> re.Pattern[str]:
        known = _any(self._our_ids())
        own = known and rf"(?<![\w-]){known}(?![\w-])"
        if long := _any([ref for ref in self._our_ids() if len(ref) >= LONG_REF]):  # also within a word
            own += "|" + long
        uuids = [rf"(?<!\w){_UUID}(?!\w)"] if self.uuids else []
        parts = [f"(?P<own>{own or '(?!)'})", *self._secrets(), _ACCOUNT, _KNOWN, *uuids, *self._hosts()]
        return re.compile("|".join([*parts, f"(?P<model>{self._model()})", _RESOURCE]), FLAGS)

    def _secrets(self) -> list[str]:
        known = [secret for secret in self.secrets if len(secret) >= SHORTEST_SECRET]
        parts = [secret for secret in known if len(secret) >= LONG_SECRET]
        heads = [rf"(?<![\w-]){re.escape(secret[:8])}[\w*.…-]*" for secret in parts]
        tails = [rf"[\w*.…-]*{re.escape(secret[-8:])}(?![\w-])" for secret in parts]
        return [*map(re.escape, known), *heads, *tails]

    def _hosts(self) -> list[str]:
        """The host and, at Azure, the resource's name, which is the first label of the host."""
        if not self.host:
            return []
        names = [self.host]
        first, _, rest = self.host.partition(".")
        if rest.endswith(("azure.com", "azure-api.net", "windows.net", "azure.us", "azure.cn")):
            names.append(first)
        return [rf"(?<![\w-]){_any(names)}(?![\w-])(?::\d+)?"]

    def _model(self) -> str:
        """The model's name as a whole word. If it is an ordinary word, only after "model" or in quotes."""
        if not self.model:
            return "(?P<before>(?!))"
        name = re.escape(self.model)
        if ORDINARY.fullmatch(self.model):
            return rf"(?P<before>{_ABOUT_A_MODEL}|(?<!purpose )['\"`]){name}(?![\w-]|\.\w)"
        return rf"(?P<before>)(?<![\w.-]){name}{SNAPSHOT}(?![\w-]|\.\w)"


def plain(text: str) -> str:
    """The text on one line, without control characters and lone surrogates, which neither Postgres nor JSON accepts."""
    whole = text.encode(errors="ignore").decode()
    return " ".join("".join(one if one.isprintable() else " " for one in whole).split())


def _any(names: Sequence[str] | Mapping[str, str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")" if names else ""
