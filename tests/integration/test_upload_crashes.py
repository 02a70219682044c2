"""Crashes during an upload: the client's retry makes one file, and nothing else stays."""

import pytest

from files import upload_completion
from files.transfers import lease
from tests.support.crashes import at_every_step, killed_at
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
LINES = chat_lines(GROUP, 3)
BODY = {"filename": "in.jsonl", "purpose": "batch", "mime_type": "application/jsonl", "bytes": len(LINES)}


async def sent(system: System) -> tuple[str, list[str]]:
    upload_id: str = (await system.call_files("POST", "/uploads", json=BODY))["id"]
    return upload_id, [await part(system, upload_id, piece) for piece in (LINES[:100], LINES[100:])]


async def part(system: System, upload_id: str, content: bytes) -> str:
    made = await system.call_files("POST", f"/uploads/{upload_id}/parts", files={"data": ("part", content)})
    return str(made["id"])


async def completed(system: System, upload_id: str, part_ids: list[str]) -> str:
    """The status of the upload after a complete, when no lease is held."""
    answer = await system.call_files("POST", f"/uploads/{upload_id}/complete", json={"part_ids": part_ids})
    return str(answer["status"])


async def check(system: System) -> None:
    """Assert that there is one file that can be used, and nothing else of the upload."""
    await system.deliver_all()
    system.age(60)
    await system.run_schedule()
    await system.deliver_all()
    [file] = system.select("SELECT id FROM files WHERE deleted_at IS NULL")
    assert system.content(file["id"]) == LINES
    assert system.stored() == [f"files/{file['id']}"]
    assert [row["state"] for row in system.select("SELECT state FROM inputs")] == ["ready"]
    assert system.select("SELECT status, due_at FROM uploads") == [{"status": "completed", "due_at": None}]


async def test_a_complete_killed_between_any_two_steps(system: System) -> None:
    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(system)
        died = await killed_at(system, step, lambda: completed(system, upload_id, part_ids))
        system.age(upload_completion.LEASE_SECONDS + 1)
        assert await completed(system, upload_id, part_ids) == "completed"
        await check(system)
        return died

    assert await at_every_step(system, scenario) > 15


async def test_a_worker_killed_between_any_two_steps(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_completion, "INLINE_BYTES", 0)
    monkeypatch.setattr(upload_completion, "WAIT_SECONDS", 0.0)

    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(system)
        assert await completed(system, upload_id, part_ids) == "pending"
        died = await killed_at(system, step, system.deliver_all)
        system.age(lease.LEASE_SECONDS + 16)
        await system.run_schedule()
        await system.deliver_all()
        assert (await system.call_files("GET", f"/uploads/{upload_id}"))["status"] == "completed"
        await check(system)
        return died

    assert await at_every_step(system, scenario) > 12


async def test_a_complete_that_died_is_done_by_the_worker(system: System) -> None:
    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(system)
        died = await killed_at(system, step, lambda: completed(system, upload_id, part_ids))
        system.age(upload_completion.LEASE_SECONDS + 16)
        await system.run_schedule()
        await system.deliver_all()
        [upload] = system.select("SELECT status, part_ids FROM uploads")
        assert upload["status"] == ("completed" if upload["part_ids"] else "pending")
        assert await completed(system, upload_id, part_ids) == "completed"
        await check(system)
        return died

    assert await at_every_step(system, scenario) > 15


async def test_a_part_killed_between_any_two_steps_and_sent_again(system: System) -> None:
    async def scenario(step: int) -> bool:
        upload_id = (await system.call_files("POST", "/uploads", json=BODY))["id"]
        died = await killed_at(system, step, lambda: part(system, upload_id, LINES))
        part_id = await part(system, upload_id, LINES)
        assert await completed(system, upload_id, [part_id]) == "completed"
        await check(system)
        return died

    assert await at_every_step(system, scenario) > 4


async def test_an_upload_that_was_abandoned_at_any_step_leaves_nothing(system: System) -> None:
    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(system)
        died = await killed_at(system, step, lambda: completed(system, upload_id, part_ids))
        for _ in range(4):
            system.age(3601)
            await system.run_schedule()
            await system.deliver_all()
        [upload] = system.select("SELECT status, file_id FROM uploads")
        kept = [f"files/{upload['file_id']}"] if upload["status"] == "completed" else []
        assert system.stored() == kept
        return died

    assert await at_every_step(system, scenario) > 15


async def test_a_crash_of_the_sweep_while_it_deletes(system: System) -> None:
    async def scenario(step: int) -> bool:
        await sent(system)
        system.age(3601)
        await system.run_schedule()
        system.age(16)

        async def swept() -> None:
            await system.run_schedule()
            await system.deliver_all()

        died = await killed_at(system, step, swept)
        system.age(lease.LEASE_SECONDS + 1)
        await swept()
        assert system.stored() == []
        assert system.select("SELECT status, due_at FROM uploads") == [{"status": "expired", "due_at": None}]
        return died

    assert await at_every_step(system, scenario) > 4
