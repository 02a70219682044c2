"""Reading a line of results, also if a strict parser refuses it, and where it names the model."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.jsonl.model_spans import renamed
from manifold.jsonl.result import Result, read

USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
LINE = (
    b'{"id":"r","custom_id":"a","response":{"status_code":200,"body":{"model":"m","choices":[{"message":'
    b'{"content":"hi"}}],"usage":{"prompt_tokens":10,"completion_tokens":5}}},"error":null}'
)
ODD = {
    "half a surrogate pair": (b'"hi"', rb'"\ud83d hi"'),
    "two first halves": (b'"hi"', rb'"\ud83d\ud83d"'),
    "no UTF-8": (b'"hi"', b'"\xff\xc3("'),
    "a bare control character": (b'"hi"', b'"a\tb\x00"'),
    "NaN": (b'"body":{', b'"body":{"score":NaN,'),
    "infinity": (b'"body":{', b'"body":{"score":-Infinity,'),
    "a number of 5000 digits": (b'"body":{', b'"body":{"seed":' + b"9" * 5000 + b","),
    "an escape that is none": (b'"hi"', rb'"\x41"'),
    "nested too deep": (b'"body":{', b'"body":{"deep":' + b"[" * 3000 + b"]" * 3000 + b","),
    "a comma too many": (b'"error":null', b'"error":null,'),
    "a byte order mark": (b'{"id"', b'\xef\xbb\xbf{"id"'),
    "hexadecimal": (b'"body":{', b'"body":{"seed":0x1F,'),
}


def result_of(line: bytes) -> Result:
    result = read(line)
    assert result is not None
    return result


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_line_that_a_strict_parser_refuses_is_read_as_far_as_can_be(odd: tuple[bytes, bytes]) -> None:
    line = LINE.replace(*odd, 1)
    assert line != LINE
    result = result_of(line)

    assert (result.custom_id, result.failed, result.usage) == ("a", False, USAGE)
    assert renamed(line, result.models, b'"group"') == line.replace(b'"m"', b'"group"')


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_one_that_failed_is_still_told_from_one_that_did_not(odd: tuple[bytes, bytes]) -> None:
    line = LINE.replace(*odd, 1)

    assert result_of(line.replace(b'"error":null', b'"error":{"code":"late"}')).failed
    assert result_of(line.replace(b'"status_code":200', b'"status_code":429')).failed


@pytest.mark.parametrize("odd", [b"null", b"NaN", rb'"\ud83d"'])
@pytest.mark.parametrize("status", [b'"status_code":200,', b""])
@pytest.mark.parametrize(
    ("body", "retriable"),
    [
        (b'"error":{"code":502,"message":"no"}', True),
        (b'"error":{"code":"429","message":"no"}', True),
        (b'"error":{"code":400,"message":"no"}', False),
        (b'"error":{"code":200,"message":"no"}', True),
        (b'"error":{"code":null,"type":"invalid_request_error"}', False),
        (b'"error":"no"', True),
        (b'"error":[{"message":"no"}]', True),
        (b'"object":"error","message":"no","code":400', False),
        (b'"object":"response","status":"failed","output":[],"error":{"code":"server_error","message":"no"}', True),
        (b'"object":"response","status":"failed","output":[],"error":{"code":"invalid_prompt","message":"no"}', False),
    ],
)
def test_an_error_in_place_of_an_answer_is_a_failure(body: bytes, retriable: bool, status: bytes, odd: bytes) -> None:
    """Of a Response of OpenAI's: https://platform.openai.com/docs/api-reference/responses/object"""
    result = result_of(b'{"x":%b,"custom_id":"a","response":{%b"body":{%b}},"error":null}' % (odd, status, body))

    assert (result.failed, result.retriable, result.unsent) == (True, retriable, False)


@pytest.mark.parametrize("no_error", [b"null", b"{}", b"false", b'""', b"[]"])
def test_an_answer_may_say_that_it_has_no_error(no_error: bytes) -> None:
    line = LINE.replace(b'"body":{', b'"body":{"error":%b,' % no_error)

    assert not result_of(line).failed
    assert not result_of(line.replace(b'"hi"', rb'"\ud83d"')).failed


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"<html><body>Bad gateway</body></html>",
        b'{"error":{"message":"no"}}',
        b"[]",
        b'"custom_id"',
        b'{"custom_id":null}',
        b'{"custom_id":7}',
        b'{"custom_id":{"a":1}}',
        LINE[:-1],
        LINE[:40],
        LINE + LINE,
        LINE.replace(b'"hi"', rb'"\ud83d')[:-1],
        b"\x1f\x8b\x08\x00\x00",
        b'{"custom_id":"a","x":]}',
        b'{"custom_id":"a","x":NaN',
        b'{"custom_id":"a" NaN}',
    ],
)
def test_what_is_no_result(line: bytes) -> None:
    assert read(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id":"a","response":{"body":{"model":<"m">}}}',
        b'{"response":{"body":{"x":1, "model" :\t<"m"> }},"custom_id":"a"}',
        rb'{"custom_id":"a","response":{"body":{"mod\u0065l":<"m">}}}',
        rb'{"custom_id":"a","response":{"body":{"model":<"m\"">,"model":<"n">}}}',
        b'{"custom_id":"a","model":"x","response":{"model":"y","body":{"z":{"model":"m"},"model":<"m">}}}',
        b'{"custom_id":"a","response":{"body":{"model":<"m">}},"response":{"body":{"model":<"n">}}}',
    ],
)
def test_each_model_of_the_body_is_renamed_and_no_other(line: bytes) -> None:
    """The names that must be replaced are between < and >."""
    given = line.replace(b"<", b"").replace(b">", b"")
    assert renamed(given, result_of(given).models, b'"G"') == re.sub(rb"<.*?>", b'"G"', line)


@pytest.mark.parametrize(
    "body", ['{"model":null}', '{"model":5}', '{"model":["m"]}', '"model"', "null", '{"x":"model"}']
)
def test_a_model_that_is_no_text_is_left_alone(body: str) -> None:
    assert result_of(b'{"custom_id":"a","response":{"body":%s}}' % body.encode()).models == ()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["model", '"model":"m"', "\\"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("body"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, VALUES), st.dictionaries(TEXT, VALUES), TEXT, st.booleans(), st.sampled_from([None, 1]))
def test_of_any_line_the_model_alone_changes(
    top: dict[str, Any], body: dict[str, Any], model: str, ascii_only: bool, indent: int | None
) -> None:
    line = {**top, "custom_id": "a", "response": {"body": {**body, "model": model}}}
    separators = (" , ", " :\t") if indent else (",", ":")
    written = json.dumps(line, ensure_ascii=ascii_only, separators=separators).encode()

    again = json.loads(renamed(written, result_of(written).models, b'"group"'))

    line["response"]["body"]["model"] = "group"
    assert again == line


@given(st.binary(max_size=60), st.integers(0, len(LINE)))
def test_no_line_raises(noise: bytes, at: int) -> None:
    line = LINE[:at] + noise + LINE[at:]
    result = read(line)
    assert result is None or renamed(line, result.models, b'"G"')
