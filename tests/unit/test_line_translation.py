"""Requests on their way to a provider with lines of its own, and their results on the way back."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest

from files.transfers import custom_id_index, held_lines, line_translation
from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.line_translation import TranslatedRequests, TranslatedResults
from manifold.errors import InvalidRequest, ProviderRefused, ProviderUnclear
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.scrubbing import Scrubber

INPUT = "input_4f"
IDS = ["request-1", "ü" * 300, 'a "quoted"\nid', "request-1 "]


class EchoTranslator:
    """Writes `{"key", "text"}`, and reads `{"key", "answer"}`, `{"key", "failure"}` or `{"key", "unsent"}`."""

    routes = frozenset({"/v1/chat/completions"})

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        if "logit_bias" in request.body and not request.drop_params:
            raise InvalidRequest("No logit_bias here.", param="logit_bias", code="unsupported_parameter")
        return {"key": request.id, "text": request.body["messages"][0]["content"]}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        if "failure" in line:
            status, code = line.get("status", 429), line.get("code", "rate_limit_exceeded")
            return LineResult.refused(line["key"], line["failure"], status=status, code=code)
        if "unsent" in line:
            return LineResult(line["key"], code=line.get("code", "batch_expired"), message=line["unsent"])
        return LineResult(line["key"], {"object": "chat.completion", "text": line["answer"]["text"]})


def request_line(custom_id: str, text: object = "hi", **members: object) -> bytes:
    body = {"model": "group", "messages": [{"role": "user", "content": text}], **members}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line).encode() + b"\n"


async def pieces(*chunks: bytes, fault: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if fault is not None:
        raise fault


async def read(chunks: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join([chunk async for chunk in chunks]).splitlines()]


async def requested(
    content: bytes, cut: int = 10, *, drop_params: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The translated lines of a file, cut into small chunks, and the error lines."""
    chunks = [content[start : start + cut] for start in range(0, len(content), cut)]
    with TranslatedRequests(EchoTranslator(), INPUT, drop_params=drop_params) as requests:
        lines = await read(requests.through(pieces(*chunks)))
        failures = await read(requests.failures())
    assert (len(lines), len(failures)) == (requests.requests, requests.refused)
    return lines, failures


async def results(
    *lines: object, fault: Exception | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """The output lines, the error lines and how many were left out."""
    index = CustomIdIndex()
    index.extend(IDS)
    scrubber = Scrubber(host="provider.example", model="secret-deployment", shown_as="group")
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines]
    with index, TranslatedResults(EchoTranslator(), INPUT, index, scrubber) as translated:
        answers = await read(translated.answers(pieces(*content, fault=fault)))
        return answers, await read(translated.failures()), translated.invalid


async def test_lines_go_by_ids_of_ours_in_the_order_of_the_file() -> None:
    content = b"\xef\xbb\xbf" + request_line(IDS[0]) + b"\r\n  \n" + b"".join(map(request_line, IDS[1:]))

    lines, failures = await requested(content.rstrip(b"\n"))

    assert lines == [{"key": f"{INPUT}-{number}", "text": "hi"} for number in range(4)]
    assert failures == []


async def test_a_request_that_cannot_be_translated_fails_alone() -> None:
    content = request_line("a") + request_line("b", logit_bias={"1": 2}) + request_line("c")

    lines, [failure] = await requested(content)

    assert [line["key"] for line in lines] == [f"{INPUT}-0", f"{INPUT}-2"]
    assert failure["custom_id"] == "b"
    assert failure["error"] is None
    assert failure["response"]["status_code"] == 400
    assert failure["response"]["body"]["error"] == {
        "message": "No logit_bias here.",
        "type": "invalid_request_error",
        "param": "logit_bias",
        "code": "unsupported_parameter",
    }
    assert (await requested(content, drop_params=True))[1] == []


async def test_a_body_of_another_shape_fails_alone() -> None:
    content = request_line("a").replace(b'[{"role": "user", "content": "hi"}]', b"17") + request_line("b")

    lines, [failure] = await requested(content)

    assert [line["key"] for line in lines] == [f"{INPUT}-1"]
    assert (failure["custom_id"], failure["response"]["body"]["error"]["code"]) == ("a", "invalid_value")


async def test_a_body_that_is_nested_too_deep_to_be_written_fails_alone() -> None:
    deep: object = "x"
    for _ in range(300):
        deep = [deep]

    lines, [failure] = await requested(request_line("a", text=deep) + request_line("b"))

    assert [line["key"] for line in lines] == [f"{INPUT}-1"]
    assert failure["custom_id"] == "a"


async def test_results_get_their_custom_id_back_and_failures_are_apart() -> None:
    answers, failures, invalid = await results(
        {"key": f"{INPUT}-3", "answer": {"text": "three"}},
        {"key": f"{INPUT}-1", "failure": f"{INPUT}-1 at https://provider.example/x: secret-deployment is busy"},
        {"key": f"{INPUT}-2", "unsent": "Not in time."},
        {"key": f"{INPUT}-0", "answer": {"text": "zero"}},
    )

    assert [line["custom_id"] for line in answers] == [IDS[3], IDS[0]]
    assert answers[0]["response"]["body"] == {"object": "chat.completion", "text": "three"}
    assert answers[0]["response"]["status_code"] == 200
    assert [line["custom_id"] for line in failures] == [IDS[1], IDS[2]]
    error = failures[0]["response"]["body"]["error"]
    assert (failures[0]["response"]["status_code"], error["code"]) == (429, "rate_limit_exceeded")
    assert error["message"] == f"{IDS[1]} at *** group is busy"
    assert failures[1]["response"] is None
    assert failures[1]["error"] == {"code": "batch_expired", "message": "Not in time."}
    assert invalid == 0


SECRET = "Jane Doe, the owner of this key, has a credit balance of 2 dollars."


@pytest.mark.parametrize(
    "line",
    [
        {"failure": SECRET, "status": 401, "code": None},
        {"failure": SECRET, "status": 402, "code": None},
        {"failure": SECRET, "status": 403, "code": "permission_error"},
        {"failure": SECRET, "status": 429, "code": "insufficient_quota"},
        {"unsent": SECRET, "code": "billing_hard_limit_reached"},
        {"unsent": SECRET, "code": "authentication_error"},
    ],
)
async def test_what_a_provider_says_of_our_own_account_is_not_shown(line: dict[str, object]) -> None:
    answers, [failure], _ = await results({"key": f"{INPUT}-0", **line})

    assert (answers, failure["custom_id"], failure["error"]) == ([], IDS[0], None)
    assert failure["response"]["status_code"] == 502
    assert failure["response"]["body"]["error"] == {
        "message": "The gateway's own account at the provider was refused: tell whoever runs this gateway.",
        "type": "server_error",
        "param": None,
        "code": "provider_account",
    }


async def test_a_prompt_that_a_provider_forbids_is_no_refusal_of_our_account() -> None:
    line = {"key": f"{INPUT}-0", "failure": "The prompt was flagged by the moderation.", "status": 403, "code": None}

    _, [failure], _ = await results(line)

    assert failure["response"]["status_code"] == 403
    assert failure["response"]["body"]["error"]["message"] == "The prompt was flagged by the moderation."


@pytest.mark.parametrize(
    "line",
    [
        b"<html>\n",
        b"[1]\n",
        {"key": "input_other-0", "answer": {"text": "x"}},
        {"key": f"{INPUT}-4", "answer": {"text": "x"}},
        {"key": f"{INPUT}--1", "answer": {"text": "x"}},
        {"key": f"{INPUT}-²", "answer": {"text": "x"}},
        {"key": 7, "answer": {"text": "x"}},
        {"answer": {"text": "x"}},
    ],
)
async def test_a_line_that_is_no_result_of_this_input_is_left_out_and_counted(line: object) -> None:
    assert await results(line, b" \n") == ([], [], 1)


@pytest.mark.parametrize("key", [f"{INPUT}-0", f"{INPUT}-0_base64"])
async def test_an_answer_that_cannot_be_read_is_a_failure_of_its_request(key: str) -> None:
    """An adapter may have put something after our id."""
    answers, [failure], invalid = await results({"key": key, "answer": None})

    assert (answers, invalid) == ([], 0)
    assert failure["custom_id"] == IDS[0]
    assert failure["response"]["status_code"] == 502


async def test_a_line_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_lines, "LONGEST_LINE", 1000)

    long = json.dumps({"key": f"{INPUT}-0", "answer": {"text": "x" * 2000}}).encode() + b"\n"
    cut = [long[start : start + 500] for start in range(0, len(long), 500)]

    answers, _, invalid = await results(*cut, {"key": f"{INPUT}-1", "answer": {"text": "y"}})

    assert ([line["custom_id"] for line in answers], invalid) == ([IDS[1]], 1)


@pytest.mark.parametrize("fault", [ProviderRefused("gone"), ProviderUnclear("broke off")])
async def test_a_fault_of_the_provider_is_passed_on(fault: Exception) -> None:
    with pytest.raises(type(fault)):
        await results({"key": f"{INPUT}-0", "answer": {"text": "x"}}, fault=fault)


async def test_many_failures_and_long_ids_are_kept_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_translation, "HELD_BYTES", 100)
    monkeypatch.setattr(custom_id_index, "HELD_BYTES", 10)
    monkeypatch.setattr(line_translation, "READ_BYTES", 50)

    _, failures, _ = await results(*({"key": f"{INPUT}-{number}", "failure": "x" * 90} for number in range(4)))

    assert [line["custom_id"] for line in failures] == IDS


async def test_ids_that_break_off_leave_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    files = list[SpooledTemporaryFile[bytes]]()

    def opened(size: int) -> SpooledTemporaryFile[bytes]:
        files.append(SpooledTemporaryFile(size))  # noqa: SIM115 (closed by the index)
        return files[-1]

    async def ids() -> AsyncIterator[list[str]]:
        yield IDS
        raise asyncio.CancelledError

    monkeypatch.setattr(custom_id_index, "SpooledTemporaryFile", opened)

    with pytest.raises(asyncio.CancelledError):
        await CustomIdIndex.of(ids())

    assert [file.closed for file in files] == [True]
