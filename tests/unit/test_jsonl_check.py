"""The report of the check for good and bad files, which agrees with a plain reading by `json`."""

import json
import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold.jsonl.check import Check
from manifold.jsonl.custom_ids import CustomIds
from manifold.jsonl.lines import MAX_LINE_BYTES
from manifold.jsonl.report import Report, UrlUse


def request(custom_id: str = "a", **members: Any) -> dict[str, Any]:
    """A good request; members given as None are left out."""
    body = {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]}
    full = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **members}
    return {name: value for name, value in full.items() if value is not None}


def body(**members: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": [], **members}


def jsonl(*requests: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in requests)


def check(data: bytes, size: int = 1 << 20, **limits: int) -> Report:
    """The report of these bytes, fed in chunks of `size`."""
    checker = Check(**limits)
    for start in range(0, len(data), size):
        checker.feed(data[start : start + size])
    return checker.finish()


def test_a_good_file_is_counted() -> None:
    data = jsonl(*(request(str(number)) for number in range(2500)))
    report = check(data)
    assert (report.errors, report.error_count) == ((), 0)
    assert (report.bytes, report.lines, report.model) == (len(data), 2500, "gpt")
    assert report.urls == {"/v1/chat/completions": UrlUse(2500, tuple(range(1, 101)))}
    assert report.longest_line == len(jsonl(request("1000")))


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_blank_lines_line_ends_and_a_byte_order_mark_change_nothing_but_the_numbers(size: int) -> None:
    one, two, three = (json.dumps(request(name)).encode() for name in "abc")
    data = b"\xef\xbb\xbf\r\n \t\n" + one + b"\r\n\n" + two + b"\n\r\n" + three
    report = check(data, size)
    assert (report.error_count, report.lines, report.bytes) == (0, 3, len(data))
    assert report.urls["/v1/chat/completions"].lines == (3, 5, 7)
    [block] = report.blocks()
    assert data[block.start :].startswith(one)


BAD = [
    (b"{oops}\n", "invalid_json_line", None),
    (b'{"a": 1} {"b": 2}\n', "invalid_json_line", None),
    (b'{"a": NaN}\n', "invalid_json_line", None),
    (b'{"a": "\xff"}\n', "invalid_json_line", None),
    (b'{"a": "\\ud800"}\n', "invalid_json_line", None),
    (b'{"a": 1e999}\n', "invalid_json_line", None),
    (b"\xef\xbb\xbf{}\n", "invalid_json_line", None),
    (b"[" * 100_000 + b"\n", "invalid_json_line", None),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "invalid_json_line", None),
    (b"[]\n", "invalid_json_line", None),
    (b'"text"\n', "invalid_json_line", None),
    (b"null\n", "invalid_json_line", None),
    (jsonl({}), "missing_required_parameter", "custom_id"),
    (jsonl({**request(), "custom_id": None}), "missing_required_parameter", "custom_id"),
    (jsonl({**request(), "custom_id": 7}), "invalid_request", "custom_id"),
    (jsonl({**request(), "custom_id": ["a"]}), "invalid_request", "custom_id"),
    (jsonl(request("")), "invalid_request", "custom_id"),
    (jsonl(request(method=None)), "missing_required_parameter", "method"),
    (jsonl(request(method="GET")), "invalid_request", "method"),
    (jsonl(request(url=None)), "missing_required_parameter", "url"),
    (jsonl(request(url=1)), "invalid_request", "url"),
    (jsonl(request(url="/" * 513)), "invalid_request", "url"),
    (jsonl(request(body=None)), "missing_required_parameter", "body"),
    (jsonl(request(body=[])), "invalid_request", "body"),
    (jsonl(request(body={"messages": []})), "missing_required_parameter", "body.model"),
    (jsonl(request(body=body(model=5))), "invalid_request", "body.model"),
    (jsonl(request(body=body(model=""))), "invalid_request", "body.model"),
    (jsonl(request(body=body(model="a\0b"))), "invalid_request", "body.model"),
    (jsonl(request(body=body(stream=True))), "invalid_request", "body.stream"),
    (jsonl(request("first")), "duplicate_custom_id", "custom_id"),
    (jsonl(request(body=body(model="other"))), "model_mismatch", "body.model"),
]
TELL_OF_TWO_LINES = {"duplicate_custom_id", "model_mismatch"}


@pytest.mark.parametrize(("bad", "code", "param"), BAD)
def test_a_bad_line_is_named_with_its_fault(bad: bytes, code: str, param: str | None) -> None:
    report = check(jsonl(request("first")) + bad + jsonl(request("last")))
    assert [(error.line, error.code, error.param) for error in report.errors] == [(2, code, param)]
    assert (report.error_count, report.lines) == (1, 3)
    assert 0 < len(report.errors[0].message) < 300


@pytest.mark.parametrize(("bad", "code", "param"), [each for each in BAD if each[1] not in TELL_OF_TWO_LINES])
def test_a_bad_first_line_is_found_too(bad: bytes, code: str, param: str | None) -> None:
    report = check(b"\n" + bad + jsonl(request("first"), request("last")))
    assert [(error.line, error.code, error.param) for error in report.errors] == [(2, code, param)]


@pytest.mark.parametrize("after", [b".5", b"e5", b"5", b"-1", b'"', b" x", b":1", b"}", b",", b"\\"])
@pytest.mark.parametrize("key", [b'"model": "gpt"', b'"method": "POST"', b'"body": {'])
@pytest.mark.parametrize("last", [False, True])
def test_text_right_after_what_the_lines_have_in_common_makes_a_line_bad(key: bytes, after: bytes, last: bool) -> None:
    content = {"messages": [], "model": "gpt"} if last else {"model": "gpt", "messages": []}
    good, bad, end = (jsonl(request(name, body=content)) for name in "abc")
    report = check(good + bad.replace(key, key + after) + end)
    assert [(error.line, error.code) for error in report.errors] == [(2, "invalid_json_line")]


FIRST = '"body": {"model": "gpt"}, "x": {}}'
LATER = '"body": {"messages": [], "model": "gpt"}}'


@pytest.mark.parametrize(
    ("good", "bad", "code"),
    [
        (FIRST, '"body": {}, "x": {}}', "missing_required_parameter"),
        (FIRST, '"body": {}, "model": "gpt"}, "x": {}}', "invalid_json_line"),
        (LATER, '"body": {}}', "missing_required_parameter"),
        (LATER, '"model": "gpt"}', "missing_required_parameter"),
        (LATER, '"model": "gpt"}}', "invalid_json_line"),
        (LATER, '"model": "gpt", "body": {}}', "missing_required_parameter"),
        (LATER[:-1] + ', "x": "far from the end of the line"}', '"body": {}}', "missing_required_parameter"),
    ],
)
def test_a_line_that_lacks_what_the_others_have_in_common_is_bad(good: str, bad: str, code: str) -> None:
    start = '{"custom_id": "%s", "method": "POST", "url": "/v1", '
    report = check("\n".join([start % "a" + good, start % "b" + bad, start % "c" + good]).encode())
    assert [(error.line, error.code) for error in report.errors] == [(2, code)]


def test_a_model_that_is_only_nested_is_none() -> None:
    usual = [request(name, body={"messages": [], "model": "gpt"}) for name in "abc"]
    report = check(jsonl(*usual, request("d", body={"messages": [], "a": {"model": "gpt"}})))
    assert [(error.line, error.code, error.param) for error in report.errors] == [
        (4, "missing_required_parameter", "body.model")
    ]


def test_messages_say_what_to_do() -> None:
    report = check(jsonl(request("a"), request("a", method="PUT"), request("b", body=body(model="x" * 100)), 5))
    assert [error.message for error in report.errors] == [
        "'method' is 'PUT'. Batches take only 'POST'.",
        "'custom_id' is the same as on line 1. Give every line its own.",
        f"'body.model' is '{'x' * 63}…', but 'gpt' in the lines before. Put the requests of each model into their own "
        "file.",
        "This line is JSON, but not an object. Write one JSON object per line.",
    ]


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\t\n"])
def test_a_file_without_requests_is_empty(data: bytes) -> None:
    report = check(data)
    assert [(error.line, error.code) for error in report.errors] == [(None, "empty_file")]
    assert (report.lines, report.model, report.common) == (0, None, None)


def test_lines_after_the_last_that_a_batch_takes_are_only_counted() -> None:
    data = jsonl(*(request(str(number)) for number in range(10)), "bad", request("0"))
    report = check(data, max_lines=9)
    assert [(error.line, error.code) for error in report.errors] == [(None, "too_many_tasks")]
    assert (report.lines, "12 requests" in report.errors[0].message) == (12, True)
    assert check(jsonl(*(request(str(number)) for number in range(9))), max_lines=9).error_count == 0


def test_all_errors_are_counted_and_the_first_are_kept() -> None:
    data = jsonl(*("bad" for _ in range(150)), request("a"), *(request("a") for _ in range(30)))
    report = check(data, max_errors=20)
    assert [error.line for error in report.errors] == list(range(1, 21))
    assert report.error_count == 180
    early = check(jsonl(request("a"), request("a"), *("bad" for _ in range(5))), max_errors=3)
    assert [(error.line, error.code) for error in early.errors[:2]] == [
        (2, "duplicate_custom_id"),
        (3, "invalid_json_line"),
    ]


def test_urls_that_differ_from_the_endpoint_are_told_by_line() -> None:
    data = jsonl(request("a"), request("b", url="/v1/embeddings"), request("c"), request("d", url="/v1/responses"))
    report = check(data)
    assert report.error_count == 0
    errors = report.endpoint_errors("/v1/embeddings")
    assert [(error.line, error.code, error.param) for error in errors] == [
        (1, "url_mismatch", "url"),
        (3, "url_mismatch", "url"),
        (4, "url_mismatch", "url"),
    ]
    assert "'/v1/responses'" in errors[2].message
    assert check(jsonl(request())).endpoint_errors("/v1/chat/completions") == []


def test_only_the_first_line_may_have_a_byte_order_mark() -> None:
    first = jsonl(request("a"))
    report = check(first + b"\xef\xbb\xbf" + jsonl(request("b")), len(first))
    assert [(error.line, error.code) for error in report.errors] == [(2, "invalid_json_line")]


def test_a_file_with_countless_urls_does_not_fill_the_report() -> None:
    report = check(jsonl(*(request(str(number), url=f"/{number}") for number in range(1000))))
    assert (len(report.urls), report.error_count) == (20, 980)
    assert (report.errors[0].line, report.errors[0].code) == (21, "url_mismatch")


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_a_line_beyond_the_longest_is_an_error_and_the_rest_is_read(size: int) -> None:
    fits = jsonl(request("fits"))
    long = jsonl(request("long", body=body(user="x" * 5000)))
    report = check(fits + long + jsonl(request("last")), size, max_line_bytes=len(fits))
    assert [(error.line, error.code) for error in report.errors] == [(2, "line_too_long")]
    assert (report.lines, report.longest_line) == (3, len(fits))
    unended = check(fits + long[:-1], size, max_line_bytes=len(fits))
    assert [(error.line, error.code) for error in unended.errors] == [(2, "line_too_long")]


def test_a_report_survives_storage() -> None:
    report = check(jsonl(request("a"), request("a"), request("b", url="/v1/embeddings"), "bad"))
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert report.to_json()["errors"][1] == {
        "line": 4,
        "code": "invalid_json_line",
        "message": report.errors[1].message,
        "param": None,
    }


def test_a_file_with_errors_has_no_rewritten_length() -> None:
    with pytest.raises(ValueError, match="errors"):
        check(b"bad").rewritten_bytes("gpt")


def test_duplicates_are_found_in_more_ids_than_one_part_holds() -> None:
    ids = CustomIds()
    ids.extend([str(number % 199_990) for number in range(200_000)], range(1, 200_001), 0)
    assert list(ids.duplicates()) == [(199_991 + number, 1 + number) for number in range(10)]


def stream(long_line: int) -> Iterator[bytes]:
    """Some 64 MB in chunks of 256 KiB, with a line of that many bytes in the middle."""
    text = "x" * 4000
    halves = [jsonl(*(request(f"{half}-{n}", body=body(user=text)) for n in range(62))) for half in range(136)]
    yield from halves[:68]
    yield from [b"x" * 2**18] * (long_line // 2**18)
    yield b"\n"
    yield from halves[68:]


def test_memory_stays_within_the_longest_line_whatever_the_file() -> None:
    chunks = list(stream(60 * 2**20))
    assert sum(map(len, chunks)) > 64_000_000
    checker = Check()
    tracemalloc.start()
    try:
        for chunk in chunks:
            checker.feed(chunk)
        report = checker.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(error.line, error.code) for error in report.errors] == [(68 * 62 + 1, "line_too_long")]
    assert peak < 1.25 * MAX_LINE_BYTES + 4 * 2**20


def test_a_long_line_is_good_up_to_the_limit_and_one_byte_more_is_bad() -> None:
    checker = Check()
    envelope = len(jsonl(request("1", body=body(user=""))))

    for extra in (0, 1):
        line = jsonl(request(str(extra), body=body(user="x" * (MAX_LINE_BYTES - envelope + extra))))
        for start in range(0, len(line), 2**20):
            checker.feed(line[start : start + 2**20])
    report = checker.finish()

    assert report.longest_line == MAX_LINE_BYTES
    assert [(error.line, error.code) for error in report.errors] == [(2, "line_too_long")]
    assert f"{MAX_LINE_BYTES:,} bytes" in report.errors[0].message


@pytest.mark.parametrize(("missing", "codes"), [(1, []), (0, ["line_too_long"])])
def test_a_last_line_counts_with_the_line_end_that_it_lacks(missing: int, codes: list[str]) -> None:
    checker = Check()
    envelope = len(jsonl(request("1", body=body(user="")))) - 1
    checker.feed(jsonl(request("1", body=body(user="x" * (MAX_LINE_BYTES - envelope - missing)))).removesuffix(b"\n"))

    assert [error.code for error in checker.finish().errors] == codes


@pytest.mark.parametrize(("opening", "good"), [(1_900_000, True), (2_100_000, False)])
def test_a_long_line_of_too_many_small_values_is_not_parsed(opening: int, good: bool) -> None:
    checker = Check()
    line = jsonl(request("1", body=body(metadata=["{}"]))).replace(b'"{}"', b",".join([b"[]"] * opening))
    assert len(line) > 5 * 2**20

    checker.feed(line)

    assert [error.code for error in checker.finish().errors] == ([] if good else ["line_too_long"])


# --- against a plain reading by `json` ---

Finding = tuple[int, str, str | None]


def strict(text: bytes) -> object:
    """As `json` reads it, without NaN, numbers beyond a double and lone surrogates, which RFC 8259 does not have."""

    def number(literal: str) -> float:
        if math.isinf(float(literal)):
            raise ValueError(literal)
        return float(literal)

    def constant(literal: str) -> float:
        raise ValueError(literal)

    value = json.loads(text.decode(), parse_float=number, parse_int=number, parse_constant=constant)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def fault(line: bytes) -> tuple[str, str | None] | None:
    """Code and param of the errors of a line, without comparing it with others."""
    try:
        value: Any = strict(line)
    except (ValueError, RecursionError):
        return "invalid_json_line", None
    if not isinstance(value, dict):
        return "invalid_json_line", None
    content = value.get("body")
    inner = content if isinstance(content, dict) else {}
    members: dict[str, Callable[[object], bool]] = {
        "custom_id": _is_text,
        "method": lambda given: given == "POST",
        "url": _is_text,
        "body": lambda given: isinstance(given, dict),
    }
    for param, is_good in members.items():
        if value.get(param) is None:
            return "missing_required_parameter", param
        if not is_good(value[param]):
            return "invalid_request", param
    if inner.get("stream") is True:
        return "invalid_request", "body.stream"
    if inner.get("model") is None:
        return "missing_required_parameter", "body.model"
    return None if _is_text(inner["model"]) else ("invalid_request", "body.model")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def findings(data: bytes) -> list[Finding]:
    errors: list[Finding] = []
    ids: set[str] = set()
    models: set[str] = set()
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip(b" \t\r"):
            continue
        wrong = fault(line)
        value: Any = {} if wrong and wrong[0] == "invalid_json_line" else strict(line)
        custom_id = value.get("custom_id")
        if isinstance(custom_id, str) and custom_id:
            if custom_id in ids:
                errors.append((number, "duplicate_custom_id", "custom_id"))
            ids.add(custom_id)
        if wrong:
            errors.append((number, *wrong))
        elif models and value["body"]["model"] not in models:
            errors.append((number, "model_mismatch", "body.model"))
        else:
            models.add(value["body"]["model"])
    return errors


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
models = st.sampled_from(["gpt", "gpt", "gpt", "other", "", 5, None])
bodies = st.fixed_dictionaries({"model": models}, optional={"stream": st.booleans(), "messages": values}) | values
requests = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": st.sampled_from(["a", "b", "c", "d"]) | scalars,
        "method": st.sampled_from(["POST", "POST", "POST", "GET", None]),
        "url": st.sampled_from(["/v1/chat/completions", "/v1/embeddings", "", 3]),
        "body": bodies,
        "metadata": values,
    },
)
usual = st.builds(request, st.text("abcdefghijklmnop", min_size=1, max_size=3))
unusual_text = st.sampled_from([b"", b" ", b"\r", b"{", b"[1]", b'{"a":1}x', b"\xff", b'"\\ud800"', b"1e999", b"-"])
lines = st.one_of(
    usual.map(lambda value: json.dumps(value).encode()),
    requests.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    requests.map(lambda value: json.dumps(value, separators=(",", ":")).encode()),
    unusual_text,
    st.binary(max_size=8).map(lambda raw: raw.replace(b"\n", b"")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, max_size=12), st.integers(1, 400), st.booleans(), st.sampled_from([b"\n", b"\r\n"]))
def test_it_agrees_with_json(each: list[bytes], size: int, bom: bool, end: bytes) -> None:
    data = (b"\xef\xbb\xbf" if bom else b"") + end.join(each)
    report = check(data, size)
    reported = sorted((error.line, error.code, str(error.param)) for error in report.errors if error.line)
    assert reported == sorted((line, code, str(param)) for line, code, param in findings(data))
