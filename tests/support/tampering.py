"""A transport between the adapters and the simulated provider that changes its answers, and records where calls go."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx

ODD: tuple[Any, ...] = (
    None, True, -1, 7.5, 10**30, "", "x" * 600, "a/../b?c#d", "line\nfeed", "ü", [], [None], [[]], {}, {"a": {}},
)  # fmt: skip
"""Values of other types and shapes than any provider documents."""
ORIGIN = re.compile(rb"https?://(?:127\.0\.0\.1|localhost|api\.provider\.test)(?::\d+)?")
PUBLIC_HOST, PUBLIC_IP = "api.provider.test", "93.184.216.34"
"""A host of the Internet, which is the simulated provider where `Tampering.public` is set."""


class Recorded(NamedTuple):
    """A call that was made, and its answer."""

    method: str
    url: httpx.URL
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class Tampering(httpx.AsyncBaseTransport):
    """Passes requests on to the simulated provider, except those whose answers are changed."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.calls = list[Recorded]()
        """Since it was last emptied."""
        self.changed: Mapping[int, Recorded] = {}
        """The answers in place of the provider's, by the number of the call in `calls`: it does not get the request."""
        self.leads_to = ""
        """The origin that replaces the simulated provider's in all answers, if it is set."""
        self.public: httpx.URL | None = None
        """The simulated provider's address, if calls to `PUBLIC_HOST` are to go there."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        recorded = self.changed.get(len(self.calls)) or await self._answer(request)
        self.calls.append(recorded._replace(method=request.method, url=request.url))
        return httpx.Response(recorded.status, headers=list(recorded.headers), content=recorded.body)

    async def _answer(self, request: httpx.Request) -> Recorded:
        url = request.url
        if self.public is not None and url.host in (PUBLIC_HOST, PUBLIC_IP):
            request.url = url.copy_with(scheme="http", host=self.public.host, port=self.public.port)
            request.extensions.pop("sni_hostname", None)
        response = await self._inner.handle_async_request(request)
        request.url = url
        body = b"".join([data async for data in response.stream])  # type: ignore[union-attr]
        await response.aclose()
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in FRAMING]
        if self.leads_to:
            body = ORIGIN.sub(self.leads_to.encode(), body)
            headers = [(name, ORIGIN.sub(self.leads_to.encode(), value.encode()).decode()) for name, value in headers]
        return Recorded(request.method, url, response.status_code, headers, body)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Where a host is: names of the Internet are at one public address."""
        if host == "localhost":
            return ["127.0.0.1"]
        return [host if host.replace(".", "").isdecimal() else PUBLIC_IP]


FRAMING = frozenset({"content-length", "content-encoding", "transfer-encoding"})


def mutants(answer: bytes, most: int) -> Iterator[bytes]:
    """Answers in which one value is odd; in place of what is no JSON, other bytes. The same each time."""
    yield from (b"", b"<html><body>Bad gateway</body></html>", b"\xff\xfe\x00", answer[: len(answer) // 2], b"[]", b"7")
    yield from (b"null", b"{}", b"[" * 5000 + b"]" * 5000)
    try:
        value = json.loads(answer)
    except ValueError:
        return
    places = list(_places(value))
    changes = [(place, odd) for number, odd in enumerate(ODD) for place in places[number % 3 :: 3]]
    step = max(1, len(changes) // most)
    for place, odd in changes[::step]:
        yield json.dumps(_changed(value, place, odd)).encode()
    without = [place for place in places if place and isinstance(place[-1], str)]
    for place in without[:: max(1, len(without) * 3 // most)]:
        yield json.dumps(_changed(value, place, MISSING)).encode()


MISSING = object()
STATES = frozenset({"status", "state", "processing_status"})


def listings(answer: bytes) -> Iterator[bytes]:
    """Answers in which a page has something else in place of its entries."""
    value = json.loads(answer)
    if isinstance(value, list):
        yield from (b"{}", b'{"data":7}', b'"x"')
    else:
        for name in (name for name, member in value.items() if isinstance(member, list)):
            yield from (json.dumps({**value, name: odd}).encode() for odd in ("x", 7, True, {"a": 1}))


def in_an_unknown_state(answer: bytes) -> bytes:
    """The answer with another state of its job, in the provider's spelling as far as it has a prefix."""
    value = json.loads(answer)
    places = [place for place in _places(value) if place and place[-1] in STATES]
    assert places
    for place in places:
        value = _changed(value, place, "BATCH_STATE_PONDERING")
    return json.dumps(value).encode()


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    members: Mapping[Any, Any] = (
        value if isinstance(value, dict) else dict(enumerate(value[:2])) if isinstance(value, list) else {}
    )
    for name, member in members.items():
        yield from _places(member, (*above, name))


def _changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    if odd is MISSING and len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = _changed(value[place[0]], place[1:], odd)
    return copy
