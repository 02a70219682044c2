"""`POST /batches/{id}/retry`: a batch of the lines of an ended one that have no successful answer."""

import json
from typing import Any

import pytest

from batches.app import create as create_app
from local.provider.defects import Defects
from local.provider.line_faults import LineFault
from manifold.errors import Unavailable
from tests.support import gateways
from tests.support.crashes import at_every_step, killed_at
from tests.support.provider import chat_line, chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
ACCOUNT = "openai"
CONTENT = chat_lines(GROUP, 3) + chat_line(GROUP, "busy", "busy") + chat_line(GROUP, "wrong", "fail-this-line")


def set_defects(system: System, **how: Any) -> None:
    system.provider.state.batches.defects[ACCOUNT] = Defects.model_validate(how)


async def ended(system: System, content: bytes = CONTENT, **fields: Any) -> str:
    """A batch of which a line met a 429, and another is wrong. The provider is well again."""
    set_defects(system, lines=LineFault(status=429, marker="busy").model_dump())
    batch = await system.create((await system.upload(content)).id, **fields)
    await system.run_until_ended(batch.id)
    set_defects(system)
    return batch.id


async def retry(system: System, batch_id: str, **more: Any) -> str:
    return str((await system.call("POST", f"/batches/{batch_id}/retry", **more))["id"])


async def refused(system: System, batch_id: str) -> tuple[int, str]:
    """The status and the code of a retry that is refused."""
    async with gateways.client(create_app(system.gateway)) as client:
        answer = await client.post(f"/batches/{batch_id}/retry")
    return answer.status_code, answer.json()["error"]["code"]


def ids(system: System, file_id: str | None) -> list[str]:
    return [json.loads(line)["custom_id"] for line in system.content(file_id).splitlines()] if file_id else []


async def test_the_lines_without_a_successful_answer_run_again_as_another_batch(system: System) -> None:
    before = await ended(system, metadata={"run": "7"})

    again = await retry(system, before)
    assert (await system.retrieve(again)).status == "validating"
    after = await system.run_until_ended(again)

    assert (after.status, after.metadata) == ("completed", {"run": "7"})
    assert (after.request_counts.total, after.request_counts.completed, after.request_counts.failed) == (2, 1, 1)
    assert ids(system, after.input_file_id) == ["busy", "wrong"]
    assert (ids(system, after.output_file_id), ids(system, after.error_file_id)) == (["busy"], ["wrong"])
    file = await system.call_files("GET", f"/files/{after.input_file_id}")
    assert (file["filename"], file["purpose"]) == (f"{before}_retry.jsonl", "batch")
    assert file["bytes"] == len(system.content(after.input_file_id))
    assert file["expires_at"] - file["created_at"] == 30 * 86_400
    rows = system.select("SELECT retry_of, key_id, user_id, team_id FROM batches ORDER BY created_at")
    assert [row.pop("retry_of") for row in rows] == [None, before]
    assert rows[0] == rows[1]


async def test_all_lines_of_a_batch_without_results_run_again(system: System) -> None:
    system.provider.state.stall(ACCOUNT, "validating")
    batch = await system.create((await system.upload(chat_lines(GROUP, 3))).id)
    await system.deliver_all()
    await system.cancel(batch.id)
    assert (await system.run_until_ended(batch.id)).status == "cancelled"
    system.provider.state.stall(ACCOUNT, None)

    after = await system.run_until_ended(await retry(system, batch.id))

    assert (after.status, after.request_counts.completed) == ("completed", 3)


async def test_what_cannot_be_retried_is_refused(system: System) -> None:
    assert await refused(system, "batch_x") == (404, "batch_not_found")
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    assert await refused(system, batch.id) == (400, "batch_not_ended")
    await system.run_until_ended(batch.id)
    assert await refused(system, batch.id) == (400, "nothing_to_retry")
    bad = await system.create((await system.upload(chat_line(GROUP, "a") + b"{}\n")).id)
    assert (await system.run_until_ended(bad.id)).status == "failed"
    assert await refused(system, bad.id) == (400, "nothing_to_retry")
    unchecked = await system.create((await system.upload(chat_line(GROUP, "a") + b"no json\n")).id)
    await system.cancel(unchecked.id)
    assert (await system.run_until_ended(unchecked.id)).status == "cancelled"
    assert await refused(system, unchecked.id) == (400, "nothing_to_retry")


@pytest.mark.parametrize("kind", ["input", "output"])
async def test_a_deleted_file_of_the_batch_is_an_error(system: System, kind: str) -> None:
    before = await system.retrieve(await ended(system))
    file_id = before.input_file_id if kind == "input" else before.output_file_id
    await system.call_files("DELETE", f"/files/{file_id}")

    assert await refused(system, before.id) == (404, "file_not_found")


async def test_a_file_that_is_purged_before_it_is_read_fails_the_batch(system: System) -> None:
    before = await system.retrieve(await ended(system))
    again = await retry(system, before.id)
    waiting, system.queue.messages = system.queue.messages, []
    await system.call_files("DELETE", f"/files/{before.output_file_id}")
    await system.deliver_all()
    system.queue.messages += waiting

    after = await system.run_until_ended(again)

    assert after.status == "failed"
    assert after.errors is not None
    assert [error.code for error in after.errors.data] == ["invalid_request"]


async def test_a_retry_whose_file_is_not_made_within_its_window_expires(system: System) -> None:
    again = await retry(system, await ended(system))
    system.queue.messages.clear()
    system.age(86_401)
    after = await system.run_until_ended(again)
    assert after.status == "expired"
    assert after.errors is not None
    assert [error.code for error in after.errors.data or ()] == ["batch_expired"]


async def test_a_repeated_retry_makes_one_batch(system: System) -> None:
    before = await ended(system)

    first = await retry(system, before)
    assert await retry(system, before, headers={"x-stainless-retry-count": "1"}) == first
    assert await retry(system, before) != first


async def test_a_retry_can_be_cancelled_before_its_file_is_there(system: System) -> None:
    again = await retry(system, await ended(system))
    await system.cancel(again)

    assert (await system.run_until_ended(again)).status == "cancelled"


async def test_a_fault_of_the_storage_is_tried_again(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    again = await retry(system, await ended(system))
    read, failures = system.gateway.storage.read, [1, 2]

    def broken(key: str) -> Any:
        if failures:
            failures.pop()
            raise Unavailable("The file storage did not answer.")
        return read(key)

    monkeypatch.setattr(system.gateway.storage, "read", broken)

    assert (await system.run_until_ended(again)).status == "completed"
    assert not failures


async def test_lost_messages_delay_a_retry_only(system: System) -> None:
    again = await retry(system, await ended(system))
    for _ in range(30):
        system.queue.messages.clear()
        system.age(60)
        await system.run_schedule()
        await system.deliver_all()

    assert (await system.retrieve(again)).status == "completed"


async def test_a_worker_killed_between_any_two_steps_of_a_retry(system: System) -> None:
    async def scenario(step: int) -> bool:
        again = await retry(system, await ended(system))

        async def make_file() -> None:
            while not system.select("SELECT 1 FROM files WHERE filename LIKE '%_retry.jsonl' AND deleted_at IS NULL"):
                await system.deliver(system.queue.messages.pop(0))

        died = await killed_at(system, step, make_file)
        after = await system.run_until_ended(again)
        assert (after.status, after.request_counts.completed, after.request_counts.failed) == ("completed", 1, 1)
        assert len(system.jobs_at_providers()) == 2
        return died

    assert await at_every_step(system, scenario) > 8
