"""Where a call goes and in whose name, and what of it must not be told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urlsplit

from manifold.scrubbing import HIDDEN, SHORTEST_SECRET, Scrubber

MAX_MESSAGE = 500
CONNECT_SECONDS = 10.0

Sign = Callable[[str, bytes], Mapping[str, str]]
"""The headers that vouch for a POST of these bytes to this address."""


@dataclass(frozen=True, slots=True)
class HttpCall:
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

    def signed(self, content: bytes) -> "HttpCall":
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
        return host_of(self.url) or "an address without a host"

    def scrub(self, text: str) -> str:
        """`text` without our credentials, and of a bounded length: for our own rows and logs."""
        for secret in self._secrets():
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, HIDDEN)
        return text[:MAX_MESSAGE]

    @property
    def scrubber(self) -> Scrubber:
        """For the provider's words on this call, which its caller may read."""
        return Scrubber(host=host_of(self.url), secrets=self._secrets(), model=self.model, uuids=True)

    def _secrets(self) -> list[str]:
        return [value.removeprefix("Bearer ") for value in self.headers.values()]


def host_of(url: str) -> str:
    """The host that a URL names, or nothing."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
