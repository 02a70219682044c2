"""Deaths in the middle of an upload: whatever was left behind, the client's retry makes one file, and nothing stays."""

import pytest

from files import completion
from files.transfers import lease
from tests.integration.test_crashes import at_every_step, killed_at
from tests.support.provider import chat_lines
from tests.support.world import World

pytest_plugins = ("tests.support.world_fixtures",)

GROUP = "gpt-4.1-mini-batch"
LINES = chat_lines(GROUP, 3)
BODY = {"filename": "in.jsonl", "purpose": "batch", "mime_type": "application/jsonl", "bytes": len(LINES)}


async def sent(world: World) -> tuple[str, list[str]]:
    upload_id: str = (await world.ask_files("POST", "/uploads", json=BODY))["id"]
    return upload_id, [await part(world, upload_id, piece) for piece in (LINES[:100], LINES[100:])]


async def part(world: World, upload_id: str, content: bytes) -> str:
    made = await world.ask_files("POST", f"/uploads/{upload_id}/parts", files={"data": ("part", content)})
    return str(made["id"])


async def completed(world: World, upload_id: str, part_ids: list[str]) -> str:
    """The status of the upload after a complete, once nobody holds it any more."""
    answer = await world.ask_files("POST", f"/uploads/{upload_id}/complete", json={"part_ids": part_ids})
    return str(answer["status"])


async def check(world: World) -> None:
    """One file that runs, and of the upload nothing."""
    await world.deliver_all()
    world.age(60)
    await world.run_schedule()
    await world.deliver_all()
    [file] = world.rows("SELECT id FROM files WHERE deleted_at IS NULL")
    assert world.content(file["id"]) == LINES
    assert world.stored() == [f"files/{file['id']}"]
    assert [row["state"] for row in world.rows("SELECT state FROM inputs")] == ["ready"]
    assert world.rows("SELECT status, due_at FROM uploads") == [{"status": "completed", "due_at": None}]


async def test_a_complete_killed_between_any_two_steps(world: World) -> None:
    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(world)
        died = await killed_at(world, step, lambda: completed(world, upload_id, part_ids))
        world.age(completion.LEASE_SECONDS + 1)
        assert await completed(world, upload_id, part_ids) == "completed"
        await check(world)
        return died

    assert await at_every_step(world, scenario) > 15


async def test_a_worker_killed_between_any_two_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "INLINE_BYTES", 0)
    monkeypatch.setattr(completion, "WAIT_SECONDS", 0.0)

    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(world)
        assert await completed(world, upload_id, part_ids) == "pending"
        died = await killed_at(world, step, world.deliver_all)
        world.age(lease.LEASE_SECONDS + 16)
        await world.run_schedule()
        await world.deliver_all()
        assert await completed(world, upload_id, part_ids) == "completed"
        await check(world)
        return died

    assert await at_every_step(world, scenario) > 8


async def test_a_part_killed_between_any_two_steps_and_sent_again(world: World) -> None:
    async def scenario(step: int) -> bool:
        upload_id = (await world.ask_files("POST", "/uploads", json=BODY))["id"]
        died = await killed_at(world, step, lambda: part(world, upload_id, LINES))
        part_id = await part(world, upload_id, LINES)
        assert await completed(world, upload_id, [part_id]) == "completed"
        await check(world)
        return died

    assert await at_every_step(world, scenario) > 4


async def test_an_upload_that_was_abandoned_at_any_step_leaves_nothing(world: World) -> None:
    async def scenario(step: int) -> bool:
        upload_id, part_ids = await sent(world)
        died = await killed_at(world, step, lambda: completed(world, upload_id, part_ids))
        for _ in range(4):
            world.age(3601)
            await world.run_schedule()
            await world.deliver_all()
        [upload] = world.rows("SELECT status, file_id FROM uploads")
        kept = [f"files/{upload['file_id']}"] if upload["status"] == "completed" else []
        assert world.stored() == kept
        return died

    assert await at_every_step(world, scenario) > 15


async def test_a_death_while_the_sweep_clears(world: World) -> None:
    async def scenario(step: int) -> bool:
        await sent(world)
        world.age(3601)
        await world.run_schedule()
        world.age(16)

        async def swept() -> None:
            await world.run_schedule()
            await world.deliver_all()

        died = await killed_at(world, step, swept)
        world.age(lease.LEASE_SECONDS + 1)
        await swept()
        assert world.stored() == []
        assert world.rows("SELECT status, due_at FROM uploads") == [{"status": "expired", "due_at": None}]
        return died

    assert await at_every_step(world, scenario) > 4
