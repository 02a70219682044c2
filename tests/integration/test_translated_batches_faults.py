"""Faults of the file storage and of the provider under batches whose lines are translated."""

from collections.abc import AsyncIterator

import pytest

from local.provider import Fault
from local.provider.defects import Defects, Ending
from local.provider.line_faults import LineFault
from manifold.errors import Unavailable
from tests.integration.test_translated_batches import (
    ACCOUNT,
    GROUP,
    bad_line,
    counts,
    lines_of,
    sending,
    stored,
    translating,
)
from tests.support.provider import chat_line, chat_lines
from tests.support.system import System

__all__ = ["sending", "translating"]  # fixtures
pytest_plugins = ("tests.support.system_fixtures",)
CONTENT = chat_lines(GROUP, 3) + bad_line("bad")


async def ready(system: System) -> str:
    """A batch whose lines are translated, and no job of which was submitted."""
    file = await system.upload(CONTENT)
    await system.deliver_all()
    return (await system.create(file.id)).id


def states(system: System) -> list[str]:
    return [job["state"] for job in system.select("SELECT state FROM jobs ORDER BY created_at")]


@pytest.mark.usefixtures("sending")
async def test_lines_that_are_gone_are_translated_again(system: System) -> None:
    batch_id = await ready(system)
    for key in stored(system):
        await system.gateway.storage.delete(key)

    batch = await system.run_until_ended(batch_id)

    assert (batch.status, counts(batch)) == ("completed", (4, 3, 1))
    assert states(system) == ["refused", "settled"]


@pytest.mark.usefixtures("sending")
async def test_nothing_is_searched_for_where_the_storage_did_not_answer_before_the_create(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await ready(system)
    size, faults = system.gateway.storage.size, [Unavailable("The file storage did not answer.")]

    async def once(key: str) -> int | None:
        if faults:
            raise faults.pop()
        return await size(key)

    monkeypatch.setattr(system.gateway.storage, "size", once)

    batch = await system.run_until_ended(batch_id)

    assert (batch.status, counts(batch)) == ("completed", (4, 3, 1))
    assert states(system) == ["refused", "settled"]
    assert system.provider.log(ACCOUNT, "batches.list") == []


@pytest.mark.usefixtures("sending")
async def test_lines_that_break_off_within_the_create_leave_it_unclear(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = await ready(system)
    read, faults = system.gateway.storage.read, [Unavailable("The file storage did not answer.")]

    async def broken(key: str) -> AsyncIterator[bytes]:
        async for chunk in read(key):
            yield chunk[: len(chunk) // 2]
            if key.startswith("inputs/") and faults:
                raise faults.pop()
            yield chunk[len(chunk) // 2 :]

    monkeypatch.setattr(system.gateway.storage, "read", broken)

    batch = await system.run_until_ended(batch_id)

    assert (batch.status, counts(batch)) == ("completed", (4, 3, 1))
    assert states(system) == ["absent", "settled"]


@pytest.mark.usefixtures("translating")
async def test_a_job_that_its_provider_failed_is_tried_again_as_any_other_is(system: System) -> None:
    """Also as often, for a quota: the error lines of what it never got are no answers of its provider's."""
    ending = Ending(state="failed", code="token_limit_exceeded")
    system.provider.fail(Fault(kind="job", times=7, job=Defects(ending=ending)))

    batch = await system.run_until_ended((await system.create((await system.upload(CONTENT)).id)).id, rounds=100)

    assert (batch.status, counts(batch), batch.errors) == ("completed", (4, 3, 1), None)
    assert states(system) == ["settled"] * 8
    assert len(system.select("SELECT id FROM shards")) == 1


@pytest.mark.parametrize("lines", ["translating", "sending"])
@pytest.mark.parametrize(
    "defects",
    [
        Defects(lines=LineFault(status=429, marker="busy")),
        Defects(ending=Ending(state="expired", answered=4)),
        Defects(missing=2),
    ],
    ids=["failed", "expired", "missing"],
)
async def test_lines_that_run_again_have_the_answers_to_their_own_requests(
    system: System, request: pytest.FixtureRequest, lines: str, defects: Defects
) -> None:
    request.getfixturevalue(lines)
    said = [chat_line(GROUP, f"id-{one}", f"say {one} {'busy' if one % 3 == 1 else ''}") for one in range(9)]
    content = b"".join([bad_line("bad-0"), b"\n", *said[:4], bad_line("bad-1"), *said[4:]])
    system.provider.fail(Fault(kind="job", times=1, job=defects))

    batch = await system.create((await system.upload(content)).id, retry_failed_lines=2)
    batch = await system.run_until_ended(batch.id, rounds=120)

    assert (batch.status, counts(batch)) == ("completed", (11, 9, 2))
    assert set(lines_of(system, batch.error_file_id)) == {"bad-0", "bad-1"}
    answers = lines_of(system, batch.output_file_id)
    assert len(answers) == 9
    assert all(f"say {custom_id[3:]} " in str(line) for custom_id, line in answers.items())
    assert [row["round"] for row in system.select("SELECT round FROM shards ORDER BY number")] == [0, 1]
