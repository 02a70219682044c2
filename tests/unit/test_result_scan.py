"""The counts of a result file, made while it streams."""

import json
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files.transfers import held_lines
from files.transfers.request_ids import AnsweredRequests, RequestIds
from files.transfers.result_scan import ResultScan
from files.transfers.result_usage import LinePrices
from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear

CHAT = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
RESPONSES = {
    "input_tokens": 20,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens_details": {"reasoning_tokens": 1},
}
EMBEDDINGS = {"prompt_tokens": 8, "total_tokens": 8}
NUMBERS = count()


def line(
    usage: dict[str, Any] | None = None, status: int = 200, error: object = None, custom_id: str | None = None
) -> bytes:
    """A result, by default of a request of its own."""
    custom_id = custom_id or f"request-{next(NUMBERS)}"
    response = None if error else {"status_code": status, "request_id": "r", "body": {"usage": usage} if usage else {}}
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}).encode()


async def passed(*chunks: bytes, fault: ProviderError | None = None) -> tuple[ResultScan, bytes]:
    """The tally, and the bytes that were passed on."""

    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        if fault is not None:
            raise fault

    scan = ResultScan("group", AnsweredRequests(), LinePrices())
    kept = b"".join([chunk async for chunk in scan.through(source())])
    assert scan.bytes == len(kept)
    return scan, kept


async def scanned(*chunks: bytes) -> ResultScan:
    scan, kept = await passed(*chunks)
    assert kept == b"".join(chunks)
    return scan


def tokens(scan: ResultScan) -> tuple[int, int, int, int]:
    usage = scan.usage
    return usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens


async def test_tokens_are_summed_in_every_apis_words() -> None:
    scan = await scanned(b"\n".join((line(CHAT), line(RESPONSES), line(EMBEDDINGS))) + b"\n")

    assert tokens(scan) == (38, 6, 12, 4)
    assert (scan.lines, scan.usage.failed_requests) == (3, 0)


async def test_numbers_that_are_written_as_texts_are_numbers() -> None:
    failed = line().replace(b"200", b'"429"')
    scan = await scanned(line({"prompt_tokens": "10", "completion_tokens": 5.0}) + b"\n" + failed)

    assert (tokens(scan), scan.lines, scan.usage.failed_requests) == ((10, 0, 5, 0), 2, 1)


async def test_a_line_failed_by_its_error_or_by_its_status() -> None:
    lines = (line(CHAT), line(status=400), line(error={"code": "batch_expired", "message": "late"}), b"")
    scan = await scanned(b"\n".join(lines))

    assert (scan.lines, scan.usage.failed_requests, scan.invalid) == (3, 2, 0)


@pytest.mark.parametrize("odd", [b"garbage", b"[1]", b"{}", b'{"custom_id": 1}', b"<html>", b'{"custom_id": "a"'])
async def test_a_line_that_is_no_result_is_kept_and_told_from_one_that_failed(odd: bytes) -> None:
    scan = await scanned(b"\n".join((line(CHAT), odd, line(status=400), b"")))

    assert (scan.lines, scan.usage.failed_requests, scan.invalid, scan.is_torn) == (2, 1, 1, False)


async def test_a_last_line_that_is_whole_needs_no_newline() -> None:
    scan = await scanned(line(CHAT) + b"\n" + line(RESPONSES))

    assert (scan.lines, scan.is_torn) == (2, False)


@pytest.mark.parametrize("cut", [1, 10, len(line(CHAT, custom_id="a")) - 1])
async def test_a_line_that_breaks_off_is_not_kept(cut: int) -> None:
    whole = line(CHAT)
    scan, kept = await passed(whole + b"\n" + line(CHAT, custom_id="a")[:cut])

    assert (scan.lines, scan.is_torn, kept) == (1, True, whole + b"\n")


@pytest.mark.parametrize("page", [b"<html>", b"Bad gateway", b"\x1f\x8b\x08"])
async def test_a_page_is_no_line_that_broke_off(page: bytes) -> None:
    scan, kept = await passed(page)

    assert (scan.lines, scan.invalid, scan.is_torn, kept) == (0, 1, False, b"")


async def test_what_was_whole_before_the_provider_broke_off_goes_on() -> None:
    whole = line(CHAT)
    scan, kept = await passed(whole + b"\n" + b'{"cust', fault=ProviderUnclear("cut"))

    assert (scan.lines, kept) == (1, whole + b"\n")
    assert scan.fault is not None


async def test_a_fault_before_the_first_byte_is_raised() -> None:
    with pytest.raises(ProviderRefused):
        await passed(fault=ProviderRefused("no"))


async def test_the_models_name_becomes_the_groups_and_every_other_byte_is_kept() -> None:
    before = b'{"custom_id": "a", "response": {"body": {"model" : "gpt-4o-mini-deployment", "x":"\\ud83d"}}}\r\n'
    _, kept = await passed(before)

    assert kept == before.replace(b"gpt-4o-mini-deployment", b"group")


@pytest.mark.parametrize("cut", [1, 3, 10, 1_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n" + line(RESPONSES, custom_id="b")])
async def test_a_byte_order_mark_at_the_start_is_dropped(end: bytes, cut: int) -> None:
    content = line(CHAT, custom_id="a") + end
    marked = BOM_UTF8 + content
    scan, kept = await passed(*(marked[start : start + cut] for start in range(0, len(marked), cut)))

    assert (kept, scan.invalid, scan.received) == (content, 0, len(marked))


async def test_a_byte_order_mark_before_a_line_too_long_to_hold_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_lines, "LONGEST_LINE", 2_000)

    long = b'{"custom_id": "a", "x":"' + b"x" * 3_000 + b'"}\n'
    scan, kept = await passed(BOM_UTF8 + long)

    assert (scan.lines, scan.unread, kept) == (1, 0, long)


async def test_results_of_one_request_are_counted_over_all_files_of_a_job() -> None:
    answered = AnsweredRequests()

    assert [answered.add(custom_id) for custom_id in ("a", "b", "a", "a")] == [True, True, False, False]
    assert answered.repeated == 2


def test_requests_are_told_apart_however_many_there_are() -> None:
    answered = AnsweredRequests()

    assert all(answered.add(f"request-{number}") for number in range(20_000))
    assert not any(answered.add(f"request-{number}") for number in range(20_000))
    assert answered.repeated == 20_000


async def test_a_request_that_has_two_results_counts_once() -> None:
    first, second = line(CHAT, custom_id="a"), line(RESPONSES, status=500, custom_id="a")
    scan, kept = await passed(b"\n".join((first, second, first)))

    assert (scan.lines, scan.usage.requests, scan.usage.failed_requests) == (1, 1, 0)
    assert tokens(scan) == (10, 4, 5, 3)
    assert kept == first + b"\n"


@pytest.mark.parametrize("tokens_told", [-5, 2**31, 2**70, 1e30, 10**400])
async def test_tokens_beyond_all_measure_count_nothing(tokens_told: float) -> None:
    usage = {"prompt_tokens": tokens_told, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}}
    assert tokens(await scanned(line(usage) + b"\n")) == (0, 0, 3, 0)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n \n\n"])
async def test_blank_lines_are_none(content: bytes) -> None:
    scan = await scanned(content)

    assert (scan.lines, scan.bytes) == (0, len(content))


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "ten"},
        {"prompt_tokens": "9" * 5000},
        {"prompt_tokens": None},
        {"prompt_tokens": True},
        {"prompt_tokens_details": 3},
    ],
)
async def test_tokens_that_are_no_numbers_count_nothing(usage: dict[str, Any]) -> None:
    assert tokens(await scanned(line(usage))) == (0, 0, 0, 0)


async def test_a_line_too_long_to_hold_is_counted_and_those_after_it_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_lines, "LONGEST_LINE", 2_000)

    scan = await scanned(b'{"x' + b"x" * 1_500, b"x" * 1_500, b"x" * 10 + b"\n" + line(CHAT))

    assert (scan.lines, scan.usage.failed_requests, scan.usage.input_tokens) == (2, 0, 10)


@pytest.mark.parametrize("begun", [b'{"custom_id": "a", "x":"', b' {"id":"batch_req_1" ,"custom_id":"\\u0061","x":"'])
async def test_the_request_of_a_line_too_long_to_hold_is_read(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_lines, "LONGEST_LINE", 2_000)

    long = begun + b"x" * 3_000 + b'"}\n'
    scan, kept = await passed(long, long[:1_000], long[1_000:], line(CHAT, custom_id="b"))

    assert (scan.lines, scan.unread, kept) == (2, 0, long + line(CHAT, custom_id="b"))


@pytest.mark.parametrize(
    ("failure", "retriable"),
    [
        ({"status": 429}, 1),
        ({"status": 500}, 1),
        ({"status": 503}, 1),
        ({"status": 400}, 0),
        ({"status": 404}, 0),
        ({}, 0),
        ({"error": {"code": "batch_expired", "message": "late"}}, 1),
        ({"error": {"code": "invalid_request", "message": "wrong"}}, 0),
        ({"error": {"code": ["batch_expired"]}}, 0),
        ({"error": "late"}, 0),
    ],
)
async def test_a_failure_that_another_attempt_may_change(failure: dict[str, Any], retriable: int) -> None:
    assert (await scanned(line(**failure))).retriable == retriable
    assert (await scanned(line(**failure).replace(b"batch_req_1", rb"\ud83d"))).retriable == retriable


@pytest.mark.parametrize(
    ("failure", "unsent"),
    [
        ({"error": {"code": "batch_cancelled"}}, 1),
        ({"error": {"code": "batch_expired"}}, 1),
        ({"error": {"code": "server_error"}}, 0),
        ({"status": 500}, 0),
        ({}, 0),
    ],
)
async def test_a_request_that_was_not_run(failure: dict[str, Any], unsent: int) -> None:
    assert (await scanned(line(**failure))).unsent == unsent
    assert (await scanned(line(**failure).replace(b"batch_req_1", rb"\ud83d"))).unsent == unsent


def test_a_request_is_marked_once() -> None:
    requests = RequestIds()
    assert all(requests.add(f"request-{number}") for number in range(5_000))

    assert [requests.mark(custom_id) for custom_id in ("request-7", "request-7", "other")] == [True, False, False]
    assert [custom_id in requests for custom_id in ("request-7", "other")] == [True, False]
    assert [requests.is_marked(custom_id) for custom_id in ("request-7", "request-8", "other")] == [True, False, False]
    assert (len(requests), requests.marked) == (5_000, 1)


@given(st.lists(st.integers(0, 400), max_size=12))
async def test_where_chunks_are_cut_makes_no_difference(cuts: list[int]) -> None:
    content = line(CHAT) + b"\r\n\n" + line(status=500) + b"\n" + line(RESPONSES)
    edges = [0, *sorted(cuts), len(content)]
    whole = await scanned(content)
    cut = await scanned(*(content[start:end] for start, end in pairwise(edges) if start <= end))

    assert (cut.lines, cut.usage, cut.bytes, tokens(cut)) == (whole.lines, whole.usage, whole.bytes, tokens(whole))


async def test_what_nobody_thought_of_takes_no_line_away_that_has_come() -> None:
    async def source(*chunks: bytes) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        raise KeyError("nobody thought of it")

    scan = ResultScan("group", AnsweredRequests(), LinePrices())
    assert [one async for one in scan.through(source(line() + b"\n"))] != []
    assert (scan.lines, type(scan.fault)) == (1, ProviderUnclear)
    with pytest.raises(KeyError):
        [one async for one in ResultScan("group", AnsweredRequests(), LinePrices()).through(source())]
