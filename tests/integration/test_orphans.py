"""Orphans, which are copies that no input names: a worker killed at any byte leaves one good input and no orphan."""

from io import BytesIO
from itertools import count

import pytest

from files.transfers.lease import LEASE_SECONDS
from files.transfers.orphans import MIN_AGE
from local.provider import Fault
from local.provider.files import File
from manifold.queue import Message
from tests.support.provider import chat_line
from tests.support.system import Killed, System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP, ACCOUNT = "gpt-4.1-mini-batch", "openai"  # a group with one deployment
HOUR = 3600


def copies(system: System, account: str = ACCOUNT) -> list[File]:
    """The inputs that the account holds, newest first."""
    return system.provider.state.files.page(account, "batch")[0]


def only_input(system: System) -> str:
    """The provider's id of the only input."""
    [row] = system.select("SELECT state, provider_ref FROM inputs WHERE state <> 'discarded'")
    assert row["state"] == "ready"
    return str(row["provider_ref"])


async def asked_for(system: System) -> Message:
    """A file of one line, and the message that starts the transfer of its input."""
    await system.upload(chat_line(GROUP, "request-1"))
    [message] = system.queue.messages
    system.queue.messages.clear()
    return message


async def deliver_or_crash(system: System, message: Message, step: int) -> bool:
    """Deliver the message. Whether the worker survived; if not, its lease is made to expire."""
    system.crash_points.reached.clear()
    system.crash_points.kill_at = step
    try:
        await system.deliver(message)
    except Killed:
        await system.restart()
        system.age(LEASE_SECONDS)
        return False
    system.crash_points.kill_at = None
    return True


def pass_time(system: System, seconds: float) -> None:
    """Assert that nothing is left in the database, the bucket and at the providers."""
    system.age(seconds)
    system.provider.state.files.age(seconds)


async def sweep(system: System) -> None:
    system.queue.messages.clear()
    await system.run_schedule()
    await system.deliver_all()


async def test_a_worker_killed_anywhere_leaves_one_good_input_and_after_the_sweep_no_orphan(system: System) -> None:
    system.crash_points.piece = 5
    for step in count(1):
        message = await asked_for(system)
        lived = await deliver_or_crash(system, message, step)
        await system.deliver(message)
        if lived:
            break
    kept = {row["provider_ref"] for row in system.select("SELECT provider_ref FROM inputs WHERE state = 'ready'")}
    assert len(kept) == step > len(chat_line(GROUP, "request-1")) / system.crash_points.piece
    assert kept < {file.id for file in copies(system)}  # some died when the provider had it and no row said so
    assert {(file.lines, file.models) for file in copies(system)} == {(1, ("gpt-4.1-mini",))}

    pass_time(system, HOUR)
    await sweep(system)

    assert {file.id for file in copies(system)} == kept
    assert system.select("SELECT 1 FROM inputs WHERE state <> 'ready' OR doubtful_at IS NOT NULL") == []


@pytest.mark.parametrize("sent", [0, 1, 100, 250, 400])
async def test_a_connection_cut_after_any_byte_leaves_one_good_input(system: System, sent: int) -> None:
    system.provider.fail(Fault(kind="cut", route="files.create", received=sent))
    message = await asked_for(system)
    await system.deliver(message)
    assert system.select("SELECT state FROM inputs") == [{"state": "pending"}]

    system.age(5)
    await system.deliver(message)

    assert [file.id for file in copies(system)] == [only_input(system)]


@pytest.mark.parametrize("kind", ["cut", "error", "garbage", "truncate"])
async def test_uploads_whose_answers_were_lost_are_deleted(system: System, kind: str) -> None:
    fault = {"kind": kind, "route": "files.create", "when": "after", "times": 3}
    system.provider.fail(Fault.model_validate(fault))
    message = await asked_for(system)
    for _ in range(4):
        await system.deliver(message)
        system.age(901)
    assert len(copies(system)) == 4

    pass_time(system, HOUR)
    await sweep(system)

    assert [file.id for file in copies(system)] == [only_input(system)]
    assert system.select("SELECT 1 FROM inputs WHERE doubtful_at IS NOT NULL") == []


@pytest.mark.parametrize("group", ["gpt-4.1-mini-batch", "gpt-4o-batch"])
async def test_a_deployment_without_suspected_orphans_is_not_listed(system: System, group: str) -> None:
    await system.upload(chat_line(group, "request-1"))
    await system.deliver_all()

    pass_time(system, 2 * HOUR)
    await sweep(system)

    assert system.provider.log(route="files.list") == []


async def make_orphan(system: System) -> str:
    """The provider's id of an orphan: the answer to its upload was lost, and a second upload succeeded."""
    system.provider.fail(Fault(kind="cut", route="files.create", when="after"))
    message = await asked_for(system)
    await system.deliver(message)
    [orphan] = copies(system)
    system.age(5)
    await system.deliver(message)
    return orphan.id


def is_stored(system: System, ref: str) -> bool:
    return ref in [file.id for file in copies(system)]


async def test_an_input_that_may_be_uploading_is_not_deleted(system: System) -> None:
    orphan = await make_orphan(system)
    system.age(HOUR)
    system.provider.state.files.age(MIN_AGE - 10)
    await sweep(system)
    assert is_stored(system, orphan)


async def test_an_input_that_a_worker_holds_is_not_deleted_before_the_next_check(system: System) -> None:
    orphan = await make_orphan(system)
    system.age(HOUR)
    system.provider.state.files.age(HOUR)
    system.select("UPDATE inputs SET state = 'pending', leased_until = now() + interval '1 minute' RETURNING id")
    await sweep(system)
    assert is_stored(system, orphan)

    system.select("UPDATE inputs SET state = 'ready' RETURNING id")
    system.age(HOUR)
    await sweep(system)
    assert not is_stored(system, orphan)


@pytest.mark.parametrize(
    "name", ["input_of-somebody-else.jsonl", "input_AAAAAAAAAAAAAAAAAAAAAAAA.jsonl", "my-lines.jsonl"]
)
async def test_a_file_of_somebody_else_is_not_deleted(system: System, name: str) -> None:
    orphan = await make_orphan(system)
    other = system.provider.state.files.receive(ACCOUNT, name, BytesIO(b"{}"), lifetime=None, processing=0)
    pass_time(system, HOUR)
    await sweep(system)
    assert not is_stored(system, orphan)
    assert is_stored(system, other.id)


async def test_the_input_of_an_open_batch_is_not_deleted_when_a_newer_one_replaces_it(system: System) -> None:
    await make_orphan(system)
    used = only_input(system)
    system.provider.state.stall(ACCOUNT, "in_progress")
    [file] = system.select("SELECT id FROM files")
    await system.create(file["id"])
    await system.deliver_all()
    system.select("UPDATE inputs SET state = 'discarded' RETURNING id")

    pass_time(system, HOUR)
    await sweep(system)

    assert [file.id for file in copies(system)] == [used]


async def test_the_copies_of_an_input_that_was_given_up_are_deleted(system: System) -> None:
    system.provider.fail(Fault(kind="error", route="files.create", when="after", times=None))
    message = await asked_for(system)
    for _ in range(8):
        await system.deliver(message)
        system.age(901)
    assert system.select("SELECT state FROM inputs") == [{"state": "failed"}]

    pass_time(system, HOUR)
    await sweep(system)

    assert copies(system) == []


async def test_a_provider_that_cannot_be_listed_is_asked_again_an_hour_later(system: System) -> None:
    orphan = await make_orphan(system)
    system.provider.fail(Fault(kind="error", route="files.list"))
    pass_time(system, HOUR)
    for _ in range(3):
        await sweep(system)
        system.age(60)
    assert is_stored(system, orphan)
    assert len(system.provider.log(route="files.list")) == 1

    system.age(HOUR)
    await sweep(system)
    assert not is_stored(system, orphan)


async def test_a_second_message_lists_nothing(system: System) -> None:
    await make_orphan(system)
    pass_time(system, HOUR)
    await system.run_schedule()
    [message] = [message for message in system.queue.messages if message.kind == "deployment"]
    for _ in range(3):
        await system.deliver(message)
    assert len(system.provider.log(route="files.list")) == 1
