"""A request to a provider: its URL and headers, and what an error message must not tell of them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from manifold.scrubbing import HIDDEN, SHORTEST_SECRET, Scrubber

MAX_MESSAGE = 500
CONNECT_SECONDS = 10.0

Sign = Callable[[str, str, bytes | None], Mapping[str, str]]
"""Makes the headers that sign a request: by its method, URL and content; `None` for content that is streamed."""


class HttpCall(NamedTuple):
    """The URL, query, headers and timeout of one request, without its method and body."""

    url: str
    headers: Mapping[str, str]
    params: Mapping[str, str]
    timeout: float
    """Seconds from start to end, of a request that moves no file."""
    model: str = ""
    """The provider's name of the model or deployment, if the call is to one."""
    sign: Sign | None = None
    """Set for a provider that wants each request signed."""

    @property
    def address(self) -> str:
        """The URL with the query."""
        if not self.params:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(self.params)}"

    def signed(self, content: bytes | None, method: str = "POST") -> "HttpCall":
        """The same call with the headers of its signature, if `sign` is set. `None`: the content is streamed."""
        if self.sign is None:
            return self
        return self._replace(headers={**self.headers, **self.sign(method, self.address, content)})

    @property
    def connect_timeout(self) -> float:
        """Seconds to open a connection: fewer than `timeout`, so that no connection differs from a late answer."""
        return min(CONNECT_SECONDS, self.timeout / 2)

    @property
    def host(self) -> str:
        """The host for log messages. The whole URL is never logged: its query may hold a credential."""
        return host_of(self.url) or "an address without a host"

    def scrub(self, text: str) -> str:
        """`text` without our credentials, at most `MAX_MESSAGE` characters: for our own logs."""
        for secret in self._secrets():
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, HIDDEN)
        return text[:MAX_MESSAGE]

    @property
    def scrubber(self) -> Scrubber:
        """Scrubs the provider's messages about this call, so that the client may read them."""
        return Scrubber(host=host_of(self.url), secrets=self._secrets(), model=self.model, uuids=True)

    def _secrets(self) -> list[str]:
        return [value.removeprefix("Bearer ") for value in self.headers.values()]


def host_of(url: str) -> str:
    """The host in a URL, `""` if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
