"""The join: a batch of several shards has one output and one error file, with one answer to each line of its input."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from files.transfers.rerun import MAX_ROUNDS
from local.provider.defects import Defects, Ending
from local.provider.line_faults import LineFault
from manifold.errors import Unavailable
from manifold.schemas import Batch
from manifold.storage import Piece
from tests.support.crashes import at_every_step, killed_at
from tests.support.provider import chat_line, chat_lines
from tests.support.splitting import cut
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
ACCOUNT = "openai"
LINES = 6


def set_defects(system: System, **how: Any) -> None:
    system.provider.state.batches.defects[ACCOUNT] = Defects.model_validate(how)


async def create(system: System, content: bytes = chat_lines(GROUP, LINES), **fields: Any) -> str:
    return (await system.create((await system.upload(content)).id, **fields)).id


async def run_batch(system: System, content: bytes = chat_lines(GROUP, LINES), **fields: Any) -> Batch:
    return await system.run_until_ended(await create(system, content, **fields), rounds=120)


def lines(system: System, file_id: str | None) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in system.content(file_id).splitlines()] if file_id else []


def answers(system: System, batch: Batch) -> dict[str, Any]:
    """By request, what answers it: the status, or the code of the error; asserts that each is answered once."""
    every = [*lines(system, batch.output_file_id), *lines(system, batch.error_file_id)]
    found = {
        line["custom_id"]: line["response"]["status_code"] if line["response"] else line["error"]["code"]
        for line in every
    }
    assert len(every) == len(found)
    return found


def all_of(answer: object, count: int = LINES) -> dict[str, object]:
    return {f"request-{number}": answer for number in range(count)}


def counts(batch: Batch) -> tuple[int, int, int]:
    told = batch.request_counts
    return told.total, told.completed, told.failed


def codes(batch: Batch) -> list[str | None]:
    return [error.code for error in batch.errors.data] if batch.errors else []


def assert_nothing_left(system: System, batch: Batch) -> None:
    """Assert that only the batch's own files are in S3."""
    own = (batch.input_file_id, batch.output_file_id, batch.error_file_id)
    assert set(system.stored()) == {f"files/{file_id}" for file_id in own if file_id}
    files = system.select("SELECT id FROM files WHERE deleted_at IS NULL")
    assert {row["id"] for row in files} == {file_id for file_id in own if file_id}


async def end_of_day(system: System) -> None:
    """Let reservations pass, and have purged what was left."""
    system.age(4 * 86_400)
    for _ in range(3):
        await system.run_schedule()
        await system.deliver_all()
        system.age(60)


async def test_shards_become_one_output_in_the_inputs_order(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 2)

    ended = await run_batch(system, output_expires_after={"anchor": "created_at", "seconds": 3600})

    assert (ended.status, codes(ended), counts(ended)) == ("completed", [], (LINES, LINES, 0))
    assert answers(system, ended) == all_of(200)
    order = [int(line["custom_id"][-1]) // 2 for line in lines(system, ended.output_file_id)]
    assert order == sorted(order)
    assert ended.error_file_id is None
    assert len(system.jobs_at_providers()) == len(system.select("SELECT 1 FROM usage")) == 3
    assert ended.usage is not None
    assert ended.usage.total_tokens > 0
    assert_nothing_left(system, ended)
    [file] = system.select(
        f"SELECT bytes, filename, expires_at - created_at AS kept FROM files WHERE id = '{ended.output_file_id}'"
    )
    assert (file["bytes"], file["kept"].total_seconds()) == (len(system.content(str(ended.output_file_id))), 3600)
    assert file["filename"] == f"{ended.id}_output.jsonl"


async def test_failed_lines_of_each_shard_are_in_one_error_file(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, 2)
    content = b"".join(chat_line(GROUP, f"request-{n}", "fail-this-line" if n % 2 else "hi") for n in range(LINES))

    ended = await run_batch(system, content)

    assert (ended.status, counts(ended)) == ("completed", (LINES, 3, 3))
    assert len(lines(system, ended.error_file_id)) == 3
    assert answers(system, ended) == {f"request-{n}": 400 if n % 2 else 200 for n in range(LINES)}
    assert_nothing_left(system, ended)


async def test_a_shard_that_the_provider_rejects_fails_its_lines_alone(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, 2)
    system.provider.state.stall(ACCOUNT, "validating")
    batch_id = await create(system)
    await system.deliver_all()
    [job] = [job for job in system.jobs_at_providers() if b"request-3" in job.file.path.read_bytes()]
    job.defects = Defects(ending=Ending(state="failed", code="mismatched_model"))
    system.provider.state.stall(ACCOUNT, None)

    ended = await system.run_until_ended(batch_id)

    assert (ended.status, codes(ended), counts(ended)) == ("completed", ["mismatched_model"], (LINES, 4, 2))
    failed = {"request-2": "mismatched_model", "request-3": "mismatched_model"}
    assert answers(system, ended) == all_of(200) | failed
    assert_nothing_left(system, ended)


async def test_a_batch_of_which_nothing_was_answered_fails_without_files(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, 2)
    set_defects(system, ending={"state": "failed", "code": "mismatched_model"})

    ended = await run_batch(system)

    assert (ended.status, codes(ended)) == ("failed", ["mismatched_model"])
    assert (ended.output_file_id, ended.error_file_id) == (None, None)
    assert_nothing_left(system, ended)


@pytest.mark.parametrize("size", [2, LINES], ids=["shards", "one shard"])
async def test_results_of_other_requests_are_left_out_and_the_missing_ones_are_errors(
    system: System, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    if size != LINES:
        cut(monkeypatch, size)
    set_defects(system, misnamed=1)

    ended = await run_batch(system)

    assert (ended.status, counts(ended)) == ("completed", (LINES, LINES - 1, 1))
    found = answers(system, ended)
    assert found.keys() == all_of(200).keys()
    assert sorted(map(str, found.values())) == ["200"] * (LINES - 1) + ["results_incomplete"]
    assert codes(ended) == ["results_unknown"]
    assert_nothing_left(system, ended)


@pytest.mark.parametrize("size", [2, LINES], ids=["shards", "one shard"])
@pytest.mark.parametrize("outcome", ["cancelled", "expired"])
async def test_lines_that_were_not_run_are_errors(
    system: System, monkeypatch: pytest.MonkeyPatch, outcome: str, size: int
) -> None:
    cut(monkeypatch, size)
    system.provider.state.stall(ACCOUNT, "in_progress")
    batch_id = await create(system)
    await system.deliver_all()
    if outcome == "cancelled":
        await system.cancel(batch_id)
    else:
        system.provider.state.batches.expire(ACCOUNT, None)

    ended = await system.run_until_ended(batch_id)

    found = answers(system, ended)
    assert ended.status == outcome
    assert set(found) == set(all_of(200))
    assert set(found.values()) == {200, f"batch_{outcome}"}
    done = [answer for answer in found.values() if answer == 200]
    assert counts(ended) == (LINES, len(done), LINES - len(done))
    assert_nothing_left(system, ended)


@pytest.mark.parametrize("size", [2, LINES], ids=["shards", "one shard"])
@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"status": None, "code": "batch_expired"}])
async def test_lines_that_failed_run_again_and_have_their_last_answer_alone(
    system: System, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], size: int
) -> None:
    cut(monkeypatch, size)
    set_defects(system, lines=LineFault(every=2, tries=1, **fault).model_dump())

    ended = await run_batch(system, retry_failed_lines=True)

    assert (ended.status, codes(ended), counts(ended)) == ("completed", [], (LINES, LINES, 0))
    assert answers(system, ended) == all_of(200)
    usage = system.select("SELECT sum(requests) AS requests, sum(failed_requests) AS failed FROM usage")
    assert [(int(row["requests"]), int(row["failed"])) for row in usage] == [(LINES + 3, 3)]
    await end_of_day(system)
    assert len(system.stored()) == 2


@pytest.mark.parametrize(("said", "rounds"), [(0, 0), (False, 0), (None, 0), (True, 2), (1, 1), (3, 3)])
async def test_lines_run_again_as_often_as_the_create_says(system: System, said: int | None, rounds: int) -> None:
    set_defects(system, lines=LineFault(status=429, marker="busy").model_dump())
    content = chat_lines(GROUP, 2) + chat_line(GROUP, "late", "busy")

    ended = await run_batch(system, content, retry_failed_lines=said)

    assert len(system.jobs_at_providers()) == 1 + rounds
    assert (ended.status, counts(ended)) == ("completed", (3, 2, 1))
    assert answers(system, ended) == all_of(200, 2) | {"late": 429}


async def test_a_wrong_line_does_not_run_again(system: System) -> None:
    content = chat_lines(GROUP, 2) + chat_line(GROUP, "bad", "fail-this-line")

    ended = await run_batch(system, content, retry_failed_lines=5)

    assert len(system.jobs_at_providers()) == 1
    assert counts(ended) == (3, 2, 1)


async def test_what_a_job_that_failed_has_answered_is_kept_and_only_the_rest_runs_again(system: System) -> None:
    batch_id = await create(system)
    set_defects(system, ending={"state": "failed", "code": "internal_error", "answered": 2})
    await system.deliver_all()
    for _ in range(3):
        system.age(6)
        await system.run_schedule()
        await system.deliver_all()
    set_defects(system)

    ended = await system.run_until_ended(batch_id, rounds=120)

    assert (ended.status, codes(ended), counts(ended)) == ("completed", [], (LINES, LINES, 0))
    assert answers(system, ended) == all_of(200)
    requests = system.select("SELECT requests FROM usage ORDER BY requests")
    assert [row["requests"] for row in requests] == [2, 4]
    assert len(system.jobs_at_providers()) == 2


async def test_a_provider_that_fails_each_job_with_an_answer_is_bounded(system: System) -> None:
    set_defects(system, ending={"state": "failed", "code": "internal_error", "answered": 1})

    ended = await run_batch(system, chat_lines(GROUP, 12))

    assert len(system.jobs_at_providers()) == MAX_ROUNDS + 1
    assert (ended.status, codes(ended)) == ("completed", ["internal_error"])
    assert counts(ended) == (12, MAX_ROUNDS + 1, 12 - MAX_ROUNDS - 1)
    assert sorted(map(str, answers(system, ended).values())) == ["200"] * 6 + ["internal_error"] * 6


async def test_no_line_runs_again_in_a_batch_that_is_cancelled(system: System) -> None:
    set_defects(system, lines=LineFault(status=429, every=2).model_dump())
    batch_id = await create(system, retry_failed_lines=5)
    await system.deliver_all()
    await system.cancel(batch_id)

    ended = await system.run_until_ended(batch_id)

    assert len(system.jobs_at_providers()) == 1
    assert ended.status in ("completed", "cancelled")


async def test_a_batch_that_an_admin_ends_before_its_join_leaves_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, 2)
    batch_id = await create(system)
    await deliver_until(system, lambda: any(message.kind == "join" for message in system.queue.messages))
    assert (await system.retrieve(batch_id)).status == "finalizing"

    await system.call("POST", f"/batches/{batch_id}/end")
    await end_of_day(system)

    assert len(system.stored()) <= 1


async def test_a_join_that_fails_is_tried_again_after_a_pause(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 2)
    batch_id = await create(system)
    fetch = system.gateway.storage.fetch
    failures = 3

    async def broken(piece: Piece) -> bytes:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise Unavailable("The file storage did not answer.")
        return await fetch(piece)

    monkeypatch.setattr(system.gateway.storage, "fetch", broken)

    ended = await system.run_until_ended(batch_id)

    assert (failures < 0, answers(system, ended)) == (True, all_of(200))
    assert len(system.stored()) == 2


async def test_a_join_that_fails_for_days_ends_the_batch(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 2)
    batch_id = await create(system)
    await deliver_until(system, lambda: any(message.kind == "join" for message in system.queue.messages))

    async def broken(_: Piece) -> bytes:
        raise Unavailable("The file storage did not answer.")

    monkeypatch.setattr(system.gateway.storage, "fetch", broken)
    for days in (0.9, 0.9):
        await pass_days(system, days)
        assert (await system.retrieve(batch_id)).status == "finalizing"
    await pass_days(system, 0.5)

    ended = await system.retrieve(batch_id)
    assert (ended.status, codes(ended)) == ("expired", ["batch_abandoned"])
    assert (ended.output_file_id, ended.error_file_id) == (None, None)
    await end_of_day(system)
    assert len(system.stored()) <= 1


async def pass_days(system: System, days: float) -> None:
    """Let days pass in steps, in each of which every message is delivered once: a join that fails sends another."""
    for _ in range(round(days * 10)):
        system.age(8640)
        await system.run_schedule()
        for _ in range(3):
            messages, system.queue.messages = list(system.queue.messages), []
            for message in messages:
                await system.deliver(message)


async def deliver_until(system: System, reached: Callable[[], object]) -> None:
    """Deliver the messages in their order, and let time pass where there is none."""
    while not reached():
        if system.queue.messages:
            await system.deliver(system.queue.messages.pop(0))
        else:
            system.age(20)
            await system.run_schedule()


async def test_a_worker_killed_between_any_two_steps_of_a_join(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 3)

    async def scenario(step: int) -> bool:
        set_defects(system, misnamed=1)
        batch_id = await create(system)
        await deliver_until(system, lambda: any(message.kind == "join" for message in system.queue.messages))
        died = await killed_at(system, step, lambda: system.run_until_ended(batch_id))
        ended = await system.run_until_ended(batch_id)
        assert (ended.status, counts(ended)) == ("completed", (LINES, LINES - 1, 1))
        assert answers(system, ended).keys() == all_of(200).keys()
        await end_of_day(system)
        assert_nothing_left_but(system, ended)
        return died

    assert await at_every_step(system, scenario) > 10


async def test_a_worker_killed_between_any_two_steps_before_lines_run_again(system: System) -> None:
    async def scenario(step: int) -> bool:
        set_defects(system, lines=LineFault(status=429, every=2, tries=1).model_dump())
        batch_id = await create(system, retry_failed_lines=1)
        await deliver_until(system, lambda: system.select("SELECT 1 FROM jobs WHERE state = 'ended'"))
        again = lambda: system.select("SELECT 1 FROM shards WHERE round = 1")  # noqa: E731
        died = await killed_at(system, step, lambda: deliver_until(system, again))
        ended = await system.run_until_ended(batch_id)
        assert (ended.status, counts(ended)) == ("completed", (LINES, LINES, 0))
        assert answers(system, ended) == all_of(200)
        assert len(system.jobs_at_providers()) == len(system.select("SELECT 1 FROM usage")) == 2
        await end_of_day(system)
        assert_nothing_left_but(system, ended)
        return died

    assert await at_every_step(system, scenario) > 10


def assert_nothing_left_but(system: System, ended: Batch) -> None:
    own = {f"files/{file_id}" for file_id in (ended.input_file_id, ended.output_file_id, ended.error_file_id)}
    assert set(system.stored()) <= own
