"""A body is decoded wherever its bytes were cut; an incomplete body is an error."""

import gzip
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.errors import ProviderUnclear
from manifold.providers import response_body

TEXT = b'{"custom_id": "request-1"}\n' * 5000
BARE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
ENCODED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    " GZip ": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": BARE.compress(TEXT) + BARE.flush(),
}


async def came(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(content: bytes, encoding: str, *, size: int = 1000, most: int = 2**20) -> list[bytes]:
    return [piece async for piece in response_body.decoded(came(content, size), encoding, most)]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("encoding", ENCODED)
async def test_each_encoding_however_it_is_cut(encoding: str, size: int) -> None:
    pieces = await read(ENCODED[encoding], encoding, size=size)
    assert b"".join(pieces) == TEXT
    assert encoding.strip() in ("", "identity") or max(map(len, pieces)) <= response_body.PIECE_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip"])
async def test_a_body_that_ends_early_is_none(encoding: str) -> None:
    with pytest.raises(ProviderUnclear, match="cannot be decoded"):
        await read(ENCODED[encoding][:-4], encoding)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("after", [bytes(9), b"garbage \x1f\x8b"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip", "Deflate"])
async def test_bytes_after_the_end_are_ignored(encoding: str, after: bytes, size: int) -> None:
    assert b"".join(await read(ENCODED[encoding] + after, encoding, size=size)) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_empty_body_is_empty(encoding: str) -> None:
    assert await read(b"", encoding) == []


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip"])
async def test_an_encoding_that_was_not_asked_for_is_no_answer(encoding: str) -> None:
    with pytest.raises(ProviderUnclear, match="not asked for"):
        await read(TEXT, encoding)


async def test_a_body_that_is_no_gzip_is_refused() -> None:
    with pytest.raises(ProviderUnclear, match="cannot be decoded"):
        await read(TEXT, "gzip")


async def test_a_body_of_countless_members_is_given_up() -> None:
    with pytest.raises(ProviderUnclear, match="cannot be decoded"):
        await read(gzip.compress(b"") * (response_body.MAX_MEMBERS + 1), "gzip")


async def test_a_bound_holds_after_decoding() -> None:
    assert await read(gzip.compress(b"x" * 1000), "gzip", most=1000) == [b"x" * 1000]
    with pytest.raises(ProviderUnclear, match="more than 999 bytes"):
        await read(gzip.compress(b"x" * 1000), "gzip", most=999)


async def test_decoded_bytes_are_released() -> None:
    allowance = response_body.ByteBudget(1500)
    for _ in range(3):
        assert len(await response_body.read_all(came(b"x" * 1000, 100), allowance)) == 1000
        with pytest.raises(ProviderUnclear, match="at once"):
            await response_body.read_all(came(b"x" * 1501, 100), allowance)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_an_error_s_body_that_cannot_be_decoded_hides_nothing(encoding: str) -> None:
    assert await response_body.read_error(came(b"no", 1), encoding) == b""
    assert len(await response_body.read_error(came(b"x" * 10**6, 1000), "")) == response_body.ERROR_BYTES


@given(st.binary(max_size=500), st.sampled_from(["gzip", "deflate"]))
def test_no_other_error_is_raised(content: bytes, encoding: str) -> None:
    inflater = response_body.Inflater(encoding)
    try:
        fed: Iterator[bytes] = inflater.feed(content)
        assert sum(map(len, fed)) >= 0
        inflater.close()
    except zlib.error:
        pass
