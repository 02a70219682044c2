"""Copies that no input names: a worker killed at any byte leaves one good input, and after the sweep no orphan."""

from io import BytesIO
from itertools import count

import pytest

from files.transfers.lease import LEASE_SECONDS
from files.transfers.orphans import MIN_AGE
from local.provider import Fault
from local.provider.files import File
from manifold.queue import Message
from tests.support.provider import chat_line
from tests.support.world import Killed, World

pytest_plugins = ("tests.support.world_fixtures",)

GROUP, ACCOUNT = "gpt-4.1-mini-batch", "openai"  # a group with one deployment
HOUR = 3600


def copies(world: World, account: str = ACCOUNT) -> list[File]:
    """The inputs that the account holds, newest first."""
    return world.provider.world.files.page(account, "batch")[0]


def ready(world: World) -> str:
    """The ref of the one input there is."""
    [row] = world.rows("SELECT state, provider_ref FROM inputs WHERE state <> 'discarded'")
    assert row["state"] == "ready"
    return str(row["provider_ref"])


async def asked_for(world: World) -> Message:
    """A file of one line, and the message that asks for its input."""
    await world.upload(chat_line(GROUP, "request-1"))
    [message] = world.mailbox.messages
    world.mailbox.messages.clear()
    return message


async def deliver_or_die(world: World, message: Message, step: int) -> bool:
    """Whether the delivery lived; a dead worker's lease has run out."""
    world.steps.taken.clear()
    world.steps.kill_at = step
    try:
        await world.deliver(message)
    except Killed:
        await world.restart()
        world.age(LEASE_SECONDS)
        return False
    world.steps.kill_at = None
    return True


def pass_time(world: World, seconds: float) -> None:
    """Here and at the providers."""
    world.age(seconds)
    world.provider.world.files.age(seconds)


async def sweep(world: World) -> None:
    world.mailbox.messages.clear()
    await world.run_schedule()
    await world.deliver_all()


async def test_a_worker_killed_anywhere_leaves_one_good_input_and_after_the_sweep_no_orphan(world: World) -> None:
    world.steps.piece = 5
    for step in count(1):
        message = await asked_for(world)
        lived = await deliver_or_die(world, message, step)
        await world.deliver(message)
        if lived:
            break
    kept = {row["provider_ref"] for row in world.rows("SELECT provider_ref FROM inputs WHERE state = 'ready'")}
    assert len(kept) == step > len(chat_line(GROUP, "request-1")) / world.steps.piece
    assert kept < {file.id for file in copies(world)}  # some died when the provider had it and no row said so
    assert {(file.lines, file.models) for file in copies(world)} == {(1, ("gpt-4.1-mini",))}

    pass_time(world, HOUR)
    await sweep(world)

    assert {file.id for file in copies(world)} == kept
    assert world.rows("SELECT 1 FROM inputs WHERE state <> 'ready' OR doubtful_at IS NOT NULL") == []


@pytest.mark.parametrize("sent", [0, 1, 100, 250, 400])
async def test_a_connection_cut_after_any_byte_leaves_one_good_input(world: World, sent: int) -> None:
    world.provider.fail(Fault(kind="cut", route="files.create", received=sent))
    message = await asked_for(world)
    await world.deliver(message)
    assert world.rows("SELECT state FROM inputs") == [{"state": "pending"}]

    world.age(5)
    await world.deliver(message)

    assert [file.id for file in copies(world)] == [ready(world)]


@pytest.mark.parametrize("kind", ["cut", "error", "garbage", "truncate"])
async def test_uploads_whose_answers_were_lost_are_deleted(world: World, kind: str) -> None:
    fault = {"kind": kind, "route": "files.create", "when": "after", "times": 3}
    world.provider.fail(Fault.model_validate(fault))
    message = await asked_for(world)
    for _ in range(4):
        await world.deliver(message)
        world.age(901)
    assert len(copies(world)) == 4

    pass_time(world, HOUR)
    await sweep(world)

    assert [file.id for file in copies(world)] == [ready(world)]
    assert world.rows("SELECT 1 FROM inputs WHERE doubtful_at IS NOT NULL") == []


@pytest.mark.parametrize("group", ["gpt-4.1-mini-batch", "gpt-4o-batch"])
async def test_a_deployment_without_doubts_is_not_listed(world: World, group: str) -> None:
    await world.upload(chat_line(group, "request-1"))
    await world.deliver_all()

    pass_time(world, 2 * HOUR)
    await sweep(world)

    assert world.provider.log(route="files.list") == []


async def in_doubt(world: World) -> str:
    """An orphan: the ref of an upload whose answer was lost before another one came through."""
    world.provider.fail(Fault(kind="cut", route="files.create", when="after"))
    message = await asked_for(world)
    await world.deliver(message)
    [orphan] = copies(world)
    world.age(5)
    await world.deliver(message)
    return orphan.id


def has(world: World, ref: str) -> bool:
    return ref in [file.id for file in copies(world)]


async def test_a_copy_that_may_be_on_its_way_is_left_alone(world: World) -> None:
    orphan = await in_doubt(world)
    world.age(HOUR)
    world.provider.world.files.age(MIN_AGE - 10)
    await sweep(world)
    assert has(world, orphan)


async def test_a_copy_of_an_input_that_a_worker_holds_is_left_alone(world: World) -> None:
    orphan = await in_doubt(world)
    world.age(HOUR)
    world.provider.world.files.age(HOUR)
    world.rows("UPDATE inputs SET state = 'pending', leased_until = now() + interval '1 minute' RETURNING id")
    await sweep(world)
    assert has(world, orphan)


@pytest.mark.parametrize(
    "name", ["input_of-somebody-else.jsonl", "input_AAAAAAAAAAAAAAAAAAAAAAAA.jsonl", "my-lines.jsonl"]
)
async def test_a_file_that_is_not_ours_is_left_alone(world: World, name: str) -> None:
    orphan = await in_doubt(world)
    other = world.provider.world.files.receive(ACCOUNT, name, BytesIO(b"{}"), lifetime=None, processing=0)
    pass_time(world, HOUR)
    await sweep(world)
    assert not has(world, orphan)
    assert has(world, other.id)


async def test_the_input_of_an_open_batch_is_left_alone_when_a_younger_one_takes_its_place(world: World) -> None:
    await in_doubt(world)
    used = ready(world)
    world.provider.world.stall(ACCOUNT, "in_progress")
    [file] = world.rows("SELECT id FROM files")
    await world.create(file["id"])
    await world.deliver_all()
    world.rows("UPDATE inputs SET state = 'discarded' RETURNING id")

    pass_time(world, HOUR)
    await sweep(world)

    assert [file.id for file in copies(world)] == [used]


async def test_the_copies_of_an_input_that_was_given_up_are_deleted(world: World) -> None:
    world.provider.fail(Fault(kind="error", route="files.create", when="after", times=None))
    message = await asked_for(world)
    for _ in range(8):
        await world.deliver(message)
        world.age(901)
    assert world.rows("SELECT state FROM inputs") == [{"state": "failed"}]

    pass_time(world, HOUR)
    await sweep(world)

    assert copies(world) == []


async def test_a_provider_that_cannot_be_listed_is_asked_again_an_hour_later(world: World) -> None:
    orphan = await in_doubt(world)
    world.provider.fail(Fault(kind="error", route="files.list"))
    pass_time(world, HOUR)
    for _ in range(3):
        await sweep(world)
        world.age(60)
    assert has(world, orphan)
    assert len(world.provider.log(route="files.list")) == 1

    world.age(HOUR)
    await sweep(world)
    assert not has(world, orphan)


async def test_a_second_message_lists_nothing(world: World) -> None:
    await in_doubt(world)
    pass_time(world, HOUR)
    await world.run_schedule()
    [message] = [message for message in world.mailbox.messages if message.kind == "deployment"]
    for _ in range(3):
        await world.deliver(message)
    assert len(world.provider.log(route="files.list")) == 1
