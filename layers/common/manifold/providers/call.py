"""Where a call goes and in whose name, and what of it must not be told."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urlsplit

MAX_MESSAGE = 500
CONNECT_SECONDS = 10.0
SHORTEST_SECRET = 8
"""A header's value of fewer characters is no credential; taking it out would garble the text."""
ADDRESSES = re.compile(r"(?:https?://|arn:aws)[^\s'\"<>)]+", re.IGNORECASE)
KEYS = re.compile(
    r"\b(?:sk|org|proj|req|key|gsk|xai)[-_][A-Za-z0-9_*-]{6,}|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    re.IGNORECASE,
)
"""What providers' own ids look like: of keys, organizations, projects and requests."""
SNAPSHOT = r"(?:-20\d\d-?\d\d-?\d\d)?"
"""The date that a provider may add to the model's name."""


Sign = Callable[[str, bytes], Mapping[str, str]]
"""The headers that vouch for a POST of these bytes to this address."""


@dataclass(frozen=True, slots=True)
class Call:
    """Where a call goes and in whose name."""

    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    timeout: float
    """Seconds from start to end, for a call that moves no file."""
    model: str = ""
    """The provider's own name of the model or deployment, where the call is of one."""
    sign: Sign | None = None
    """For a provider that wants each request signed."""

    @property
    def address(self) -> str:
        """The URL with the parameters."""
        if not self.params:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(self.params)}"

    def signed(self, content: bytes) -> "Call":
        """The same call with the headers of its signature, if it is to have one."""
        return (
            self if self.sign is None else replace(self, headers={**self.headers, **self.sign(self.address, content)})
        )

    @property
    def connect_timeout(self) -> float:
        """Shorter than the whole, so that a connection that never opened is told from an answer that never came."""
        return min(CONNECT_SECONDS, self.timeout / 2)

    @property
    def host(self) -> str:
        """For messages; never the whole address, whose query may hold a credential."""
        try:
            return urlsplit(self.url).hostname or "an address without a host"
        except ValueError:
            return "an address that cannot be read"

    def scrub(self, text: str) -> str:
        """`text` without our credentials, and of a bounded length: for our own rows and logs."""
        for value in self.headers.values():
            secret = value.removeprefix("Bearer ")
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text[:MAX_MESSAGE]

    def scrub_for_caller(self, text: str) -> str:
        """`text` without anything that tells where the call went: no address, no id of an account, no deployment."""
        text = KEYS.sub("***", ADDRESSES.sub("***", self.scrub(text)))
        text = re.sub(re.escape(self.host), "***", text, flags=re.IGNORECASE)
        if not self.model:
            return text
        named = rf"(?<![\w.-]){re.escape(self.model)}{SNAPSHOT}(?![\w-])"
        return re.sub(named, "***", text, flags=re.IGNORECASE)
