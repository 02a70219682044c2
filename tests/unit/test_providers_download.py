"""An interrupted download continues from there if the server has ranges, and is never taken as complete."""

from collections.abc import Callable, Mapping

import httpx
import pytest

from manifold.errors import ProviderError, ProviderUnclear
from manifold.providers.batch_client import BatchClient
from manifold.providers.http_call import HttpCall

FILE = b"".join(b'{"custom_id":"%d"}\n' % number for number in range(40))
CALL = HttpCall("https://api.example.com/v1/files/f/content", {"api-key": "very-secret"}, {}, 5.0)
Cut = Callable[[int], bool]


class Breaking(httpx.AsyncByteStream):
    """A body that ends after these bytes, with an error, or without one if its length is unknown."""

    def __init__(self, content: bytes, error: Exception | None) -> None:
        self._content = content
        self._error = error

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        yield self._content
        if self._error is not None:
            raise self._error


class Server:
    """A server of `FILE` that sends at most `piece` bytes in an answer."""

    def __init__(self, piece: int, *, ranges: bool = True, sized: bool = True, tags: Mapping[int, str] = {}) -> None:
        self.requests: list[httpx.Request] = []
        self._piece = piece
        self._ranges = ranges
        self._sized = sized
        self._tags = tags

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        requested = request.headers.get("range")
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and self._ranges else 0
        if start >= len(FILE):
            return httpx.Response(416, headers={"content-range": f"bytes */{len(FILE)}"})
        piece = FILE[start : start + self._piece]
        headers = {"etag": self._tags.get(len(self.requests), '"one"')}
        if self._sized:
            headers["content-length"] = str(len(FILE) - start)
        if requested and self._ranges:
            headers["content-range"] = f"bytes {start}-{len(FILE) - 1}/{len(FILE)}"
        broken = self._sized and start + len(piece) < len(FILE)
        error = httpx.RemoteProtocolError("peer closed connection") if broken else None
        return httpx.Response(
            206 if requested and self._ranges else 200, headers=headers, stream=Breaking(piece, error)
        )


async def _public(host: str, port: int) -> list[str]:
    return ["93.184.216.34"]


async def downloaded(server: Callable[[httpx.Request], httpx.Response]) -> bytes:
    http = BatchClient(httpx.MockTransport(server), _public)
    got = bytearray()
    try:
        async for chunk in http.download(CALL):
            got += chunk
    except ProviderError as error:
        error.add_note(got.decode())
        raise
    finally:
        await http.close()
    return bytes(got)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("piece", [7, 100, len(FILE) - 1, len(FILE), len(FILE) + 1])
async def test_a_file_that_is_always_cut_comes_by_ranges(piece: int, sized: bool) -> None:
    """Without a length, a cut is noticed only within a line."""
    server = Server(piece, sized=sized)

    assert await downloaded(server) == FILE
    assert all(request.headers["if-range"] == '"one"' for request in server.requests[1:])
    assert all(request.headers["accept-encoding"] == "identity" for request in server.requests)


async def test_a_cut_where_the_server_gives_no_ranges_is_unclear_and_asked_for_once_more_alone() -> None:
    server = Server(100, ranges=False)
    with pytest.raises(ProviderUnclear) as caught:
        await downloaded(server)
    assert caught.value.__notes__ == [FILE[:100].decode()]
    assert len(server.requests) == 2


async def test_a_body_without_length_is_all_there_is_where_the_server_gives_no_ranges() -> None:
    assert await downloaded(Server(100, ranges=False, sized=False)) == FILE[:100]


async def test_the_rest_of_another_file_is_not_taken() -> None:
    with pytest.raises(ProviderUnclear):
        await downloaded(Server(100, tags={2: '"two"'}))


@pytest.mark.parametrize(
    "headers",
    [
        {"content-range": "bytes 0-99/750"},
        {"content-range": "bytes 100-749/751"},
        {"content-range": "nonsense"},
        {},
        {"content-range": "bytes 100-749/750", "content-encoding": "gzip"},
    ],
)
async def test_a_range_that_was_not_asked_for_is_not_taken(headers: Mapping[str, str]) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        if "range" in request.headers:
            return httpx.Response(206, headers=headers, stream=Breaking(FILE[100:], None))
        return Server(100)(request)

    with pytest.raises(ProviderUnclear):
        await downloaded(server)


async def test_ranges_that_bring_nothing_more_end() -> None:
    requested = []

    def server(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        if "range" not in request.headers:
            return Server(100)(request)
        headers = {"content-range": f"bytes 100-{len(FILE) - 1}/{len(FILE)}"}
        return httpx.Response(206, headers=headers, stream=Breaking(b"", httpx.ReadError("reset")))

    with pytest.raises(ProviderUnclear):
        await downloaded(server)
    assert len(requested) == 2


async def test_a_range_that_ends_early_is_followed_by_the_next() -> None:
    def server(request: httpx.Request) -> httpx.Response:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        piece = FILE[start : start + 300]
        headers = {"content-range": f"bytes {start}-{start + len(piece) - 1}/{len(FILE)}"}
        if start:
            return httpx.Response(206, headers=headers, content=piece)
        return Server(300)(request)

    assert await downloaded(server) == FILE


async def test_retries_of_a_range_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifold.providers.download.MAX_ANSWERS", 5)
    server = Server(10)
    with pytest.raises(ProviderUnclear):
        await downloaded(server)
    assert len(server.requests) == 5


async def test_an_empty_body_without_length_is_empty() -> None:
    assert await downloaded(lambda _: httpx.Response(200, stream=Breaking(b"", None))) == b""


async def test_the_store_that_a_download_was_sent_to_is_asked_for_the_rest_without_our_key() -> None:
    store = Server(300)

    def server(request: httpx.Request) -> httpx.Response:
        if request.url.host == "api.example.com":
            return httpx.Response(302, headers={"location": "https://store.example.org/signed"})
        return store(request)

    assert await downloaded(server) == FILE
    assert [request.headers.get("range") for request in store.requests] == [None, "bytes=300-", "bytes=600-"]
    assert not any("api-key" in request.headers for request in store.requests)
