"""A provider's report of an end and its results are checked before they are used."""

import json
from typing import Any, get_args

import pytest

from batches.poll_results import PREMATURE_END_SECONDS
from local.provider import Fault
from local.provider.defects import Defects, Text, text_defect
from local.provider.line_shape import Marks
from manifold.schemas import Batch
from tests.support.provider import chat_line, chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
ACCOUNT = "openai"
LINES = 4


def set_defects(system: System, **how: Any) -> None:
    system.provider.state.batches.defects[ACCOUNT] = Defects(**how)


def fail(system: System, kind: str, route: str = "files.content", times: int | None = None, **how: Any) -> None:
    system.provider.fail(Fault.model_validate({"kind": kind, "route": route, "times": times, **how}))


async def run_batch(system: System, content: bytes = chat_lines(GROUP, LINES)) -> Batch:
    """Run a batch of these lines to its end."""
    return await system.run_until_ended((await system.create((await system.upload(content)).id)).id, rounds=80)


async def ended_at_provider(system: System) -> str:
    """A batch whose job has ended, and whose messages are delivered except those that are delayed."""
    batch = await system.create((await system.upload(chat_lines(GROUP, LINES))).id)
    for _ in range(4):
        await system.deliver_all()
        system.age(6)
        await system.run_schedule()
    return batch.id


def counts(batch: Batch) -> tuple[int, int, int]:
    told = batch.request_counts
    return told.total, told.completed, told.failed


def codes(batch: Batch) -> list[str | None]:
    return [error.code for error in batch.errors.data] if batch.errors else []


def answers(system: System, file_id: str | None) -> list[bytes]:
    return system.content(file_id).splitlines(keepends=True) if file_id else []


def assert_complete(system: System, batch: Batch) -> None:
    assert (batch.status, codes(batch)) == ("completed", [])
    assert counts(batch) == (LINES, LINES, 0)
    assert len(answers(system, batch.output_file_id)) == LINES
    assert len(system.select("SELECT * FROM usage")) == 1


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polls", [1, 2, 6])
async def test_an_end_whose_files_are_named_later_is_asked_again(system: System, polls: int) -> None:
    set_defects(system, unnamed=polls)

    assert_complete(system, await run_batch(system))


async def test_files_that_are_never_named_end_the_batch_with_errors_that_say_so(system: System) -> None:
    set_defects(system, unnamed=10_000)
    batch_id = await ended_at_provider(system)
    asked = len(system.provider.log(route="batches.retrieve"))

    system.age(PREMATURE_END_SECONDS / 2)
    await system.run_schedule()
    assert (await system.retrieve(batch_id)).status == "in_progress"
    assert len(system.provider.log(route="batches.retrieve")) > asked

    ended = await system.run_until_ended(batch_id)
    assert (ended.status, counts(ended)) == ("completed", (LINES, LINES, 0))
    assert (ended.output_file_id, codes(ended)) == (None, ["results_missing"])
    assert "named no file" in str(ended.errors and ended.errors.data[0].message)


async def test_a_completed_batch_that_counts_nothing_and_names_nothing_is_asked_again(system: System) -> None:
    set_defects(system, unnamed=1, counts={"total": 0, "completed": 0, "failed": 0})

    assert_complete(system, await run_batch(system))


async def test_an_end_that_counts_nothing_keeps_what_it_names(system: System) -> None:
    set_defects(system, counts={})

    assert_complete(system, await run_batch(system))


async def test_a_cancelled_batch_without_a_result_ends_at_once(system: System) -> None:
    system.provider.state.stall(ACCOUNT, "validating")
    batch = await system.create((await system.upload(chat_lines(GROUP, LINES))).id)
    await system.deliver_all()
    await system.cancel(batch.id)

    ended = await system.run_until_ended(batch.id, rounds=4)

    assert (ended.status, codes(ended)) == ("cancelled", [])


@pytest.mark.parametrize("outcome", ["cancelled", "expired"])
async def test_partial_results_that_are_named_late_are_kept(system: System, outcome: str) -> None:
    system.provider.state.stall(ACCOUNT, "in_progress")
    set_defects(system, unnamed=2)
    batch = await system.create((await system.upload(chat_lines(GROUP, LINES))).id)
    await system.deliver_all()
    if outcome == "cancelled":
        await system.cancel(batch.id)
    else:
        system.provider.state.batches.expire(ACCOUNT, None)

    ended = await system.run_until_ended(batch.id)

    assert (ended.status, codes(ended)) == (outcome, [])
    assert len(answers(system, ended.output_file_id)) == counts(ended)[1] > 0


async def test_an_error_file_that_is_named_late_is_fetched_too(system: System) -> None:
    set_defects(system, unnamed_errors=1)
    content = chat_lines(GROUP, 3) + chat_line(GROUP, "bad", "fail-this-line")

    ended = await run_batch(system, content)

    assert (codes(ended), counts(ended)) == ([], (4, 3, 1))
    assert len(answers(system, ended.error_file_id)) == 1


@pytest.mark.parametrize("times", [1, 3])
async def test_a_job_that_is_unknown_for_a_while_is_not_lost(system: System, times: int) -> None:
    fail(system, "refuse", "batches.retrieve", times=times, status=404, code="not_found")

    assert_complete(system, await run_batch(system))


async def test_a_cancel_of_a_job_that_is_unknown_for_a_while_reaches_it(system: System) -> None:
    system.provider.state.stall(ACCOUNT, "in_progress")
    batch = await system.create((await system.upload(chat_lines(GROUP, LINES))).id)
    await system.deliver_all()
    fail(system, "refuse", "batches.cancel", times=1, status=404, code="not_found")
    fail(system, "refuse", "batches.retrieve", times=2, status=404, code="not_found")
    await system.cancel(batch.id)

    ended = await system.run_until_ended(batch.id)

    assert (ended.status, [job.state for job in system.jobs_at_providers()]) == ("cancelled", ["cancelled"])


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "garbage"},
        {"kind": "inject", "text": '{"error": {"message": "Service unavailable"}}'},
        {"kind": "inject", "text": ""},
        {"kind": "inject", "text": "\x1f"},
        {"kind": "truncate", "ranges": False},
        {"kind": "truncate", "ranges": False, "framing": "chunked"},
        {"kind": "truncate", "ranges": False, "framing": "close", "bytes": 100},
    ],
)
async def test_content_that_is_no_results_is_fetched_again(system: System, how: dict[str, Any]) -> None:
    fail(system, times=2, **how)

    assert_complete(system, await run_batch(system))


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_truncated_results_are_fetched_by_ranges(system: System, framing: str) -> None:
    fail(system, "truncate", framing=framing, bytes=150)

    assert_complete(system, await run_batch(system))

    assert len(system.select("SELECT 1 FROM jobs WHERE attempts = 1")) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_complete_lines_of_truncated_results_are_kept_and_reported(system: System, framing: str) -> None:
    fail(system, "truncate", framing=framing, ranges=False, bytes=700)

    ended = await run_batch(system)

    kept = answers(system, ended.output_file_id)
    assert 0 < len(kept) < LINES
    assert all(json.loads(line)["response"]["body"]["model"] == GROUP for line in kept)
    assert (ended.status, set(codes(ended))) == ("completed", {"results_incomplete"})
    assert system.select("SELECT requests FROM usage") == [{"requests": len(kept)}]


async def test_an_html_page_is_never_stored_as_output(system: System) -> None:
    fail(system, "garbage")

    ended = await run_batch(system)

    assert (ended.status, codes(ended), ended.output_file_id) == ("failed", ["results_lost"], None)
    assert system.stored() == [f"files/{ended.input_file_id}"]


async def test_missing_results_are_fetched_again_and_then_reported(system: System) -> None:
    set_defects(system, missing=1)

    ended = await run_batch(system)

    assert len(system.provider.log(route="files.content")) > 4
    assert len(answers(system, ended.output_file_id)) == LINES - 1
    assert (ended.status, codes(ended)) == ("completed", ["results_incomplete"])
    assert sum(counts(ended)[1:]) <= LINES


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_results_outlive_an_account_that_is_refused_for_a_while(system: System, status: int) -> None:
    fail(system, "refuse", times=6, status=status)

    assert_complete(system, await run_batch(system))


async def test_the_best_download_is_kept(system: System) -> None:
    set_defects(system, missing=1)
    batch_id = await ended_at_provider(system)
    fail(system, "garbage")

    ended = await system.run_until_ended(batch_id, rounds=80)

    assert (ended.status, len(answers(system, ended.output_file_id))) == ("completed", LINES - 1)
    assert {"results_incomplete", "results_invalid"} == set(codes(ended))


async def test_an_output_is_kept_though_the_error_file_is_gone(system: System) -> None:
    content = chat_lines(GROUP, 3) + chat_line(GROUP, "bad", "fail-this-line")
    batch = await system.create((await system.upload(content)).id)
    await system.deliver_all()
    for _ in range(3):
        system.age(2)
        await system.run_schedule()
    files = system.provider.state.files
    for file in files.page(ACCOUNT)[0]:
        if file.name.endswith("_error.jsonl"):
            files.remove(ACCOUNT, file.id)

    ended = await system.run_until_ended(batch.id, rounds=80)

    assert (ended.status, codes(ended)) == ("completed", ["results_incomplete"])
    [unanswered] = answers(system, ended.error_file_id)
    assert len(answers(system, ended.output_file_id)) == 3
    assert (json.loads(unanswered)["custom_id"], json.loads(unanswered)["error"]["code"]) == (
        "bad",
        "results_incomplete",
    )


async def test_the_first_of_repeated_results_is_kept_and_they_are_reported(system: System) -> None:
    set_defects(system, repeated=2)

    ended = await run_batch(system)

    assert len(answers(system, ended.output_file_id)) == LINES
    assert (ended.status, codes(ended), counts(ended)) == ("completed", ["results_repeated"], (LINES, LINES, 0))


@pytest.mark.parametrize("text", get_args(Text))
async def test_malformed_result_lines_are_kept_and_charged(system: System, text: Text) -> None:
    set_defects(system, text=text)

    ended = await run_batch(system)

    assert (ended.status, codes(ended), counts(ended)) == ("completed", [], (LINES, LINES, 0))
    assert system.select("SELECT requests, failed_requests, input_tokens, output_tokens FROM usage") == [
        {"requests": LINES, "failed_requests": 0, "input_tokens": 2 * LINES, "output_tokens": 3 * LINES}
    ]
    for line in answers(system, ended.output_file_id):
        assert b'"%s"' % GROUP.encode() in line
        assert text_defect(text, Marks())[1] in line


@pytest.mark.parametrize(
    "told",
    [
        {"total": 4, "completed": 4, "failed": 4},
        {"total": -1, "completed": -4, "failed": -4},
        {"total": 10**30, "completed": 10**30, "failed": 10**30},
        {"total": 2**31, "completed": 2**31, "failed": 2**63},
        {"total": 9, "completed": 7, "failed": 1},
        {"total": None, "completed": None, "failed": None},
        {"total": "4", "completed": [4], "failed": True},
        {"total": 4.0, "completed": 4.0, "failed": 0.5},
    ],
)
async def test_counts_are_those_of_the_file_whatever_the_provider_counts(system: System, told: dict[str, Any]) -> None:
    set_defects(system, counts=told)

    ended = await run_batch(system)

    assert counts(ended) == (LINES, LINES, 0)
    assert len(answers(system, ended.output_file_id)) == LINES


async def test_the_models_name_in_the_results_is_the_groups(system: System) -> None:
    content = chat_lines(GROUP, 3) + chat_line(GROUP, "bad", "fail-this-line")

    ended = await run_batch(system, content)

    [job] = system.jobs_at_providers()
    theirs = system.provider.state.files.get(ACCOUNT, str(job.output_file_id)).path.read_bytes()
    model = json.loads(theirs.splitlines()[0])["response"]["body"]["model"]
    assert model != GROUP
    renamed = theirs.replace(json.dumps(model).encode(), json.dumps(GROUP).encode())
    assert b"".join(answers(system, ended.output_file_id)) == renamed
