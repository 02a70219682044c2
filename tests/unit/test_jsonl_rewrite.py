"""A rewrite changes the model and nothing else, however a line is written."""

import json
import tracemalloc
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold.jsonl.check import Check
from manifold.jsonl.report import Report
from manifold.jsonl.rewrite import Rewrite

NEW = 'new "größer" model\\'
TOKEN = json.dumps(NEW, ensure_ascii=False).encode()


def check(data: bytes, size: int = 1 << 20) -> Report:
    checker = Check()
    for start in range(0, len(data), size):
        checker.feed(data[start : start + size])
    return checker.finish()


def rewrite(data: bytes, report: Report | None, size: int = 1 << 20) -> bytes:
    rewriter = Rewrite(NEW, report)
    pieces = [rewriter.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*pieces, rewriter.finish()])


def assert_rewritten(data: bytes, expected: bytes, size: int = 1 << 20) -> Report:
    """Check the file, and rewrite it with and without the report's common parts of the lines."""
    report = check(data, size)
    assert report.errors == ()
    assert rewrite(data, report, size) == expected
    assert rewrite(data, None, size) == expected
    assert report.rewritten_bytes(NEW) == len(expected)
    return report


USUAL = '{"custom_id": "%s", "method": "POST", "url": "/v1/chat/completions", "body": {"model": @, "messages": []}}'
LAST = '{"method": "POST", "url": "/v1", "body": {"messages": [], "model": @}, "custom_id": "%s"}'
SORTED = (
    '{"body": {"max_tokens": 5, "messages": [], "model": @, "n": 1}, "custom_id": "%s", "method": "POST", "url": "/v1"}'
)
COMMON = '"method": "POST", "url": "/v1/chat/completions", "body": {"model": @'
HEAD = '{"custom_id": "x", ' + COMMON
ODD = {
    "compact": '{"custom_id":"x","method":"POST","url":"/v1","body":{"model":@}}',
    "spread": '{ "custom_id" : "x" ,\t"method" : "POST", "url" : "/v1", "body" : { "model" : @ } } ',
    "model last": '{"custom_id":"x","method":"POST","url":"/v1","body":{"x":[{"a":[1,{"model":"m"}]}],"model":@}}',
    "body first": '{"body":{"model":@,"x":{}},"custom_id":"x","url":"/v1","method":"POST"}',
    "more members": HEAD + ', "messages": []}, "metadata": {"model": "m", "body": {"model": "m"}}}',
    "model nested before": '{"a":{"body":{"model":"m"}},' + HEAD[1:] + "}}",
    "common nested before": '{"a": {' + COMMON.replace("@", '"gpt"') + '}}, "custom_id": "x", ' + COMMON + "}}",
    "common nested after": HEAD + ', "a": {' + COMMON.replace("@", '"gpt"') + "}}}}",
    "common in a text": HEAD + ', "a": ' + json.dumps(COMMON.replace("@", '"gpt"')) + "}}",
    "key in a text": HEAD + r', "a": "say \"model\": \"gpt\"", "b\"model": "gpt", "c\\": "model"}}',
    "key as a value": HEAD + ', "role": "model", "model ": 1, "Model": 2, "xmodel": 3}}',
    "model twice": HEAD + ', "messages": [], "model": @}}',
    "model a hundred thousand times": HEAD + ', "model": @' * 100_000 + "}}",
    "model twice, first no text": '{"custom_id":"x","method":"POST","url":"/v1","body":{"model":@NUMBER,"model":@}}',
    "body twice": HEAD + '}, "body": {"a": 1, "model" :@}}',
    "body twice, first no object": '{"body": 7, ' + HEAD[1:] + "}}",
    "key escaped": r'{"custom_id":"x","method":"POST","url":"/v1","body":{"mod\u0065l":@}}',
    "key escaped after": HEAD + r', "\u006dodel": @}}',
    "body escaped after": HEAD + r'}, "bo\u0064y": {"model": @}}',
    "all escaped": r'{"custom_id":"x","method":"POST","url":"/","b\u006Fdy":{"\u006D\u006fd\u0065\u006c":@}}',
    "last, nested before": '{"custom_id":"x",' + LAST[1:].replace("[]", '[{"model": "gpt"}]') % "x",
    "last, twice": '{"custom_id":"x",' + LAST[1:].replace("[]", '[], "model":@') % "x",
    "last, escaped after": LAST.replace("@", r'@, "m\u006fdel": @') % "x",
    "last, body twice": LAST.replace("}", '}, "body": {"model": @}', 1) % "x",
    "copy of the text before the body": '{"x": {"model": "gpt"}, '
    + LAST.replace('[], "model": @', '[], "model": @, "n": 1')[1:] % "x",
    "last, common nested before": '{"x": ' + LAST.replace("@", '"gpt"') % "y" + ", " + LAST[1:] % "x",
    "last, common nested after": LAST[:-1] % "x" + ', "x": ' + LAST.replace("@", '"gpt"') % "y" + "}",
    "sorted": SORTED % "x",
    "sorted, nested before": SORTED.replace("[]", '[{"model": "gpt"}]') % "x",
    "sorted, nested after": SORTED.replace('"n": 1', '"n": {"model": "gpt"}') % "x",
    "sorted, twice": SORTED.replace("[]", '[], "model": @') % "x",
    "sorted, body twice": SORTED.replace('"method"', '"body": {"model": @, "n": 2}, "method"') % "x",
    "sorted, body escaped before": SORTED.replace("{", '{"bo\\u0064y": {"model": @}, ', 1) % "x",
    "sorted, more members": SORTED[:-1] % "x" + ', "metadata": {"model": "gpt"}}',
    "last, in a text": LAST.replace("[]", json.dumps('"model": "gpt"')) % "x",
    "secret-like names": HEAD + ', "": {"model": "m"}}}',
    "floats": HEAD + ', "a": [1.10, 1E5, -0.0, 12345678901234567890123, 1e-7], "b": "\\u00e9é\\/"}}',
    "megabytes of text": '{"custom_id":"x","method":"POST","url":"/v1","body":{"a":"'
    + "\\n model " * 300_000
    + '","model":@}}',
    "deep": '{"custom_id":"x","method":"POST","url":"/v1","body":{"a":'
    + "[" * 900
    + "{}"
    + "]" * 900
    + ',"model":@, "b":{"model":"m"}}}',
    "deep after": HEAD + ', "b": {"model": "m"}, "a": ' + '{"model":' * 900 + "[]" + "}" * 900 + "}}",
}


def fill(template: str, model: str) -> bytes:
    return template.replace("@NUMBER", model if model != '"gpt"' else "5").replace("@", model).encode()


@pytest.mark.parametrize("template", ODD.values(), ids=ODD)
@pytest.mark.parametrize("others", [USUAL, LAST, SORTED], ids=["usual", "model last", "sorted"])
@pytest.mark.parametrize("place", ["alone", "first", "between", "last"])
def test_an_odd_line_comes_out_right(template: str, others: str, place: str) -> None:
    usual = [others % number for number in range(3)]
    at = {"alone": [], "first": usual, "between": usual[:2], "last": []}[place]
    before = {"alone": [], "first": [], "between": usual[2:], "last": usual}[place]
    every = [*before, template, *at]
    data, expected = (b"".join(fill(line, model) + b"\n" for line in every) for model in ('"gpt"', TOKEN.decode()))
    assert_rewritten(data, expected)


def test_what_the_lines_have_in_common_is_reported() -> None:
    data = "\n".join(USUAL % number for number in range(5)).replace("@", '"gpt"').encode()
    assert check(data).common == COMMON.replace("@", '"gpt"')
    assert check(data + b"\n" + fill(ODD["compact"], '"gpt"')).common is None
    for written in (SORTED.replace("[]", json.dumps("x" * 100)), SORTED.replace("[]", '[{"model": "gpt"}]')):
        report = check(fill(written, '"gpt"'))
        assert (report.common, report.common_last) == ('"model": "gpt"', True)
    assert check(fill(ODD["body first"], '"gpt"')).common == '"body":{"model":"gpt"'
    assert check(fill(ODD["sorted, twice"], '"gpt"')).common is None


def test_a_report_from_before_the_last_copy_was_noted_means_the_first() -> None:
    data = "\n".join(USUAL % number for number in range(3)).replace("@", '"gpt"').encode()
    stored = check(data).to_json()
    del stored["common_last"]
    assert Report.from_json(stored) == check(data)


@pytest.mark.parametrize("size", [1, 2, 3, 50, 1 << 20])
def test_line_ends_and_blank_lines_are_kept_and_the_byte_order_mark_is_dropped(size: int) -> None:
    template = "\r\n" + USUAL % 1 + "\r\n\n  \n" + USUAL % 2 + "\n\r\n" + USUAL % 3
    assert_rewritten(b"\xef\xbb\xbf" + fill(template, '"gpt"'), fill(template, TOKEN.decode()), size)


def test_a_model_in_other_spellings_is_one_model() -> None:
    every = [USUAL % 1, USUAL % 2]
    data = "\n".join([every[0].replace("@", r'"g\u0070t"'), every[1].replace("@", '"gpt"')]).encode()
    assert_rewritten(data, fill("\n".join(every), TOKEN.decode()))


def test_a_line_that_no_check_let_pass_is_refused() -> None:
    rewriter = Rewrite(NEW, max_line_bytes=100)
    with pytest.raises(ValueError, match="too long"):
        rewriter.feed(b"x" * 200 + b"\n")


def test_memory_is_that_of_a_chunk_and_a_line() -> None:
    chunk = (USUAL % 1).replace("@", '"gpt"').replace("[]", '["' + "x" * 4000 + '"]').encode() + b"\n"
    chunk *= 2**18 // len(chunk)
    rewriter = Rewrite(NEW)
    tracemalloc.start()
    try:
        for _ in range(256):
            rewriter.feed(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20


# --- lines written at random, with what is expected of them ---

Pairs = list[tuple[str, Any]]


class Model:
    """A place for the model."""


class Writer:
    """Writes JSON in any equivalent form; objects are lists of pairs, so that a key can be repeated."""

    def __init__(self, random: Random, plain: bool) -> None:
        self._random = random
        self._plain = plain

    def write(self, value: object) -> str:
        if isinstance(value, Model):
            return "@"
        if isinstance(value, tuple):
            inner = f"{self._gap()},{self._gap()}".join(
                f"{self._text(key)}{self._gap()}:{self._gap()}{self.write(member)}" for key, member in value
            )
            return "{" + self._gap() + inner + self._gap() + "}"
        if isinstance(value, list):
            return "[" + self._gap() + f"{self._gap()},".join(map(self.write, value)) + self._gap() + "]"
        return self._text(value) if isinstance(value, str) else json.dumps(value)

    def _gap(self) -> str:
        return "" if self._plain else self._random.choice(["", "", " ", "\t", "\r", "  "])

    def _text(self, text: str) -> str:
        return '"' + "".join(map(self._character, text)) + '"'

    def _character(self, character: str) -> str:
        if not self._plain and self._random.random() < 0.1 and ord(character) < 0x10000:
            return self._random.choice([f"\\u{ord(character):04x}", f"\\u{ord(character):04X}"])
        return json.dumps(character, ensure_ascii=self._random.random() < 0.5)[1:-1]


names = st.sampled_from(["model", "body", "messages", "", "content", '"model"', "\\", "é", "\U0001f600"])
texts = st.text(st.sampled_from('model":{}[],\\ @é\n\U0001f600').filter(lambda c: c != "@"), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names | texts
nested = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner), max_size=3).map(tuple)
)
others = st.lists(st.tuples(names.filter(lambda name: name not in {"model", "body"}), nested), max_size=3)


@st.composite
def templates(draw: st.DrawFn) -> str:
    """A good request with `@` where `body.model` is."""
    content = [*draw(others), *[("model", Model())] * draw(st.sampled_from([1, 1, 1, 2]))]
    members = [("method", "POST"), ("url", "/v1"), ("body", tuple(draw(st.permutations(content)))), *draw(others)]
    members.append(("custom_id", draw(st.uuids()).hex))
    writer = Writer(draw(st.randoms(use_true_random=False)), draw(st.booleans()))
    return writer.write(tuple(draw(st.permutations(members))))


usual = st.builds(str.__mod__, st.sampled_from([USUAL, USUAL, LAST, SORTED]), st.uuids())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(usual | templates(), min_size=1, max_size=6),
    st.integers(1, 300),
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]),
    st.booleans(),
)
def test_any_file_is_rewritten_byte_by_byte(every: list[str], size: int, bom: bool, end: str, ended: bool) -> None:
    template = end.join(every) + (end if ended else "")
    data, expected = fill(template, '"gpt"'), fill(template, TOKEN.decode())
    report = assert_rewritten((b"\xef\xbb\xbf" if bom else b"") + data, expected, size)
    assert (report.lines, report.model) == (len(every), "gpt")
    for before, after in zip(data.split(b"\n"), expected.split(b"\n"), strict=True):
        if before.strip():
            value = json.loads(before)
            value["body"]["model"] = NEW
            assert json.loads(after) == value
