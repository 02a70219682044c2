"""Server-sent events are the same wherever the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.providers import sse
from manifold.providers.sse import Event, Reader

STREAM = (
    b"\xef\xbb\xbf: a comment\n"
    b'data: {"a": 1}\n\n'
    b"event: ping\r\ndata:\r\n\r\n"
    b"id: 7\rretry: 10\rdata: one\rdata:  two\r\r"
    b"unknown: field\ndata\n\n"
    b"event: dropped, for it has no data\n\n"
    b"data: caf\xc3\xa9 \xe2\x80\xa8 one line\n\n"
    b"data: never ended\n"
)
EVENTS = [
    Event("message", b'{"a": 1}'),
    Event("ping", b""),
    Event("message", b"one\n two"),
    Event("message", b""),
    Event("message", "café \u2028 one line".encode()),
]


def read(chunks: list[bytes]) -> list[Event]:
    reader = Reader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


def test_a_stream_at_once() -> None:
    assert read([STREAM]) == EVENTS


def test_a_stream_byte_by_byte() -> None:
    assert read([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_a_stream_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read([STREAM[start:end] for start, end in pairwise(edges)]) == EVENTS


def test_an_event_is_told_as_soon_as_it_ends() -> None:
    reader = Reader()
    assert reader.feed(b"data: 1\r\n\r") == [Event("message", b"1")]
    assert reader.feed(b"\n") == []
    assert reader.feed(b"data: 2\r\n\r\n") == [Event("message", b"2")]


@pytest.mark.parametrize("chunk", [b"data: xxxx\n", b"x" * 9])
def test_an_event_without_an_end_is_not_kept_for_ever(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_PENDING", 64)
    with pytest.raises(ValueError, match="without an end"):
        read([chunk] * 100)
