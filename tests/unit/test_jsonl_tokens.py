"""Tokens are estimated within a known error, and summed for each block of a file."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bench import ROOT, tokens
from manifold.jsonl.check import Check
from manifold.jsonl.report import Report
from manifold.jsonl.token_estimate import (
    AUDIO_TOKENS,
    FILE_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    REQUEST_TOKENS,
    SMALL_IMAGE_TOKENS,
    request_tokens,
    text_tokens,
)

TEXTS = json.loads((Path(__file__).parent.parent / "texts" / "tokens.json").read_text())["texts"]
EMPTY = REQUEST_TOKENS + MESSAGE_TOKENS
BASE64 = "iVBORw0KGgo" * 50_000


def chat(content: object, **members: object) -> dict[str, Any]:
    return {"model": "gpt", "messages": [{"role": "user", "content": content}], **members}


def lines(*bodies: object) -> bytes:
    return b"".join(
        json.dumps(
            {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body},
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for number, body in enumerate(bodies)
    )


def check(data: bytes, size: int = 1 << 20) -> Report:
    checker = Check()
    for start in range(0, len(data), size):
        checker.feed(data[start : start + size])
    return checker.finish()


def total(report: Report) -> int:
    assert report.input_tokens is not None
    return sum(report.input_tokens)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text["name"])
def test_a_text_is_estimated_within_a_fifth(text: dict[str, Any]) -> None:
    assert text_tokens(text["text"]) == pytest.approx(text["o200k_base"], rel=0.2)


def test_the_estimate_is_better_than_four_bytes_a_token() -> None:
    ours = [abs(text_tokens(text["text"]) / text["o200k_base"] - 1) for text in TEXTS]
    plain = [abs(len(text["text"].encode()) / 4 / text["o200k_base"] - 1) for text in TEXTS]
    assert sum(ours) < sum(plain) / 3


def test_the_documentation_states_the_error_of_each_text() -> None:
    page = (ROOT / "docs" / "decisions" / "0021-token-estimates.md").read_text().splitlines()
    for row in tokens.rows(TEXTS):
        assert f"| {' | '.join(row)} |" in page


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text["name"])
def test_a_long_text_is_estimated_by_its_pieces(text: dict[str, Any]) -> None:
    assert text_tokens(text["text"] * 50) == pytest.approx(50 * text["o200k_base"], rel=0.25)


PARTS = [
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}, IMAGE_TOKENS),
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}", "detail": "low"}}, 85),
    ({"type": "input_image", "image_url": f"data:image/png;base64,{BASE64}", "detail": "low"}, SMALL_IMAGE_TOKENS),
    ({"type": "image", "source": {"type": "base64", "data": BASE64}}, IMAGE_TOKENS),
    ({"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}, AUDIO_TOKENS),
    ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BASE64}"}}, FILE_TOKENS),
    ({"type": "input_file", "file_data": BASE64}, FILE_TOKENS),
]


@pytest.mark.parametrize(("part", "tokens"), PARTS)
def test_images_audio_and_files_count_by_constants(part: dict[str, Any], tokens: int) -> None:
    assert request_tokens(chat([part])) == EMPTY + tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1] * 500, [2] * 500]}, 1000),
        ({"input": "Hello"}, 1),
        ({"input": ["Hello"] * 1000}, 1200),
        ({"messages": None}, 0),
        ({"messages": [{"role": ["x"], "type": {}, "content": []}]}, MESSAGE_TOKENS),
        ({}, 0),
    ],
)
def test_inputs_of_other_shapes_are_estimated(body: dict[str, Any], tokens: int) -> None:
    assert request_tokens(body) == pytest.approx(REQUEST_TOKENS + tokens, rel=0.1)


def test_tools_and_schemas_count() -> None:
    tool = {"type": "function", "function": {"name": "look_up", "description": "Look a word up in the dictionary."}}
    assert request_tokens(chat("Hi", tools=[tool])) > request_tokens(chat("Hi")) + 15


def test_a_body_of_any_nesting_is_estimated_within_bounds() -> None:
    deep = json.loads('{"a":' * 900 + "1" + "}" * 900)
    many: list[Any] = [[[{}] * 100] * 100] * 100
    for body in (chat(deep, tools=deep), chat(many), chat([{str(n): "x" for n in range(100_000)}])):
        assert request_tokens(body) > 0


def text(random: Random, words: int) -> str:
    return " ".join(random.choice(["batch", "gateway", "tokens,", "Überblick", "12.5%", "the"]) for _ in range(words))


@pytest.mark.parametrize("size", [1000, 4097, 1 << 20])
def test_a_files_sums_do_not_depend_on_its_chunks(size: int) -> None:
    random = Random(1)
    data = lines(*(chat(text(random, random.randrange(5, 60)), max_tokens=random.randrange(100)) for _ in range(2500)))
    report = check(data, size)
    assert report == check(data, len(data))
    assert report.input_tokens is not None
    assert report.output_tokens is not None
    assert (len(report.input_tokens), len(report.output_tokens)) == (3, 3)


def test_a_files_estimate_is_that_of_all_its_lines() -> None:
    random = Random(2)
    bodies = [chat(text(random, random.randrange(5, 60))) for _ in range(5000)]
    assert total(check(lines(*bodies))) == pytest.approx(sum(map(request_tokens, bodies)), rel=0.1)


def test_lines_with_images_do_not_count_for_those_without() -> None:
    random = Random(3)
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64[:60_000]}"}}
    bodies = [
        chat([{"type": "text", "text": text(random, 40)}, image] if number % 50 == 25 else text(random, 40))
        for number in range(2000)
    ]
    assert total(check(lines(*bodies))) == pytest.approx(sum(map(request_tokens, bodies)), rel=0.1)


def test_lines_in_other_layouts_are_estimated_too() -> None:
    """The model comes at another place in each second line, so that it is not proved but parsed by itself."""
    bodies = [chat("Hello " * 50), {"messages": [{"role": "user", "content": "Hello " * 50}], "model": "gpt"}] * 500
    assert total(check(lines(*bodies))) == pytest.approx(sum(map(request_tokens, bodies)), rel=0.02)


@pytest.mark.parametrize(
    ("members", "output", "stated"),
    [
        ([{"max_tokens": 10}, {"max_tokens": 20}], 30, 2),
        ([{"max_tokens": 10}, {"max_completion_tokens": 5}, {"max_output_tokens": 7}], 22, 3),
        ([{}, {"max_completion_tokens": 5}], 5, 1),
        ([{"max_tokens": 10, "n": 3}, {"max_tokens": 200_000, "n": 128}], 25_600_030, 2),
        ([{"max_tokens": 10}, {"max_tokens": "9"}, {"max_tokens": [1]}, {"max_tokens": 0}, {"max_tokens": 2e9}], 10, 1),
        ([{"max_tokens": 10}, {"max_tokens": None}], 10, 1),
        ([{"max_tokens": None, "max_completion_tokens": 9}], 9, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [50, 1 << 20])
def test_the_stated_maximum_output_is_summed(
    members: list[dict[str, Any]], output: int, stated: int, size: int
) -> None:
    report = check(lines(*(chat("Hi", **one) for one in members)), size)
    assert (report.output_tokens, report.output_limits) == ((output,), stated)


def test_bad_lines_keep_the_sums_at_their_places() -> None:
    data = b"{}\n" * 1000 + lines(chat("Hi", max_tokens=5))
    report = check(data)
    assert report.input_tokens is not None
    assert (report.input_tokens[0], report.output_tokens, report.output_limits) == (0, (0, 5), 1)


def test_a_file_without_good_lines_has_no_tokens() -> None:
    report = check(b"{}\n")
    assert (report.input_tokens, report.output_tokens, report.output_limits) == ((), (), 0)


def test_a_report_of_before_estimates_is_read() -> None:
    stored = check(lines(chat("Hi"))).to_json()
    for member in ("input_tokens", "output_tokens", "output_limits"):
        del stored[member]
    report = Report.from_json(stored)
    assert (report.lines, report.input_tokens, report.output_limits) == (1, None, None)


def test_a_report_of_a_later_release_is_read() -> None:
    report = check(lines(chat("Hi")))
    assert Report.from_json({**report.to_json(), "later": 1}) == report
