"""JSON that a strict parser refuses for one character is read without that character."""

import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold import lenient_json

ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (rb'{"a": "cut \ud83d"}', "cut \ufffd"),
        (rb'{"a": "\ude00 cut"}', "\ufffd cut"),
        (rb'{"a": "\ud83d\ud83d\ude00"}', "\ufffd\U0001f600"),
        (rb'{"a": "\uD83D\uDE00 \uD83D"}', "\U0001f600 \ufffd"),
        (rb'{"a": "\\ud83d \ud83d"}', "\\ud83d \ufffd"),
        (rb'{"a": "\\\ud83d"}', "\\\ufffd"),
        (rb'{"a": "\ud83d\n"}', "\ufffd\n"),
        (rb'{"a": "\ud83dx", "b": "\u00e9"}', "\ufffdx"),
    ],
)
def test_half_a_surrogate_pair_is_replaced(content: bytes, value: str) -> None:
    for read in (lenient_json.request, lenient_json.answer):
        assert read(content)["a"] == value
        orjson.dumps(read(content))


def test_a_members_name_is_text_too() -> None:
    assert lenient_json.request(rb'{"\ud83d": 1}') == {"\ufffd": 1}


@given(ANY_TEXT)
def test_any_text_of_a_lax_encoder_is_read(text: str) -> None:
    """As CPython reads it, without lone surrogates."""
    content = json.dumps([text]).encode()
    expected = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(content)[0])
    assert lenient_json.request(content) == lenient_json.answer(content) == [expected]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": NaN}', b'{"a": "\xff"}', b'{"a": "\n"}', rb'{"a": "\ud8"}'])
def test_what_a_client_writes_wrong_otherwise_stays_wrong(content: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        lenient_json.request(content)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": NaN}', None),
        (b'\xef\xbb\xbf{"a": "marked"}', "marked"),
        (b'{"a": -Infinity}', None),
        (b'{"a": "NaN \\" Infinity", "b": Infinity}', 'NaN " Infinity'),
        (b'{"a": "caf\xe9"}', "caf\ufffd"),
        (b'{"a": "one\ntwo"}', "one\ntwo"),
    ],
)
def test_an_answer_is_read_more_leniently(content: bytes, value: object) -> None:
    assert lenient_json.answer(content)["a"] == value


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b'{"a": NaNa}', b'{"a": "open', b'{"a": "\\ud83d}'])
def test_an_answer_that_is_no_json_stays_none(content: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        lenient_json.answer(content)
