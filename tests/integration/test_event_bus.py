"""The operator's event bus gets the event of each batch's end, at least once; without one, nothing happens."""

import json

import boto3
import pytest

from admin.migrations import migrate
from manifold.auth import key_hash
from manifold.event_bus import BusEvent, EventBus
from manifold.gateway import Gateway
from manifold.store.keys import Key
from tests.support import gateways
from tests.support.crashes import at_every_step, killed_at
from tests.support.gateways import client
from tests.support.provider import chat_lines
from tests.support.system import CrashPoints, InMemoryQueue, System
from webhooks.app import create

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/batches"


class Bus(EventBus):
    """A client of buses at moto of which each call is a step. moto checks an event, and `taken` has what it took."""

    def __init__(self, crash_points: CrashPoints) -> None:
        self.taken: list[BusEvent] = []
        self._crash_points = crash_points

    async def put(self, arn: str, event: BusEvent) -> None:
        work = super().put

        async def put() -> None:
            await work(arn, event)
            self.taken.append(event)

        await self._crash_points.around("put an event", put)


@pytest.fixture
def bus(system: System, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """The bus `BUS`, to which each environment puts its events."""
    boto3.client("events").create_event_bus(Name="batches")
    one = Bus(system.crash_points)
    monkeypatch.setattr(Gateway, "event_bus", one)
    return one


async def deploy(system: System, arn: str) -> None:
    """What a deploy with this parameter does to the database."""
    gateway = gateways.gateway(system._database_url, {"MANIFOLD_EVENT_BUS_ARN": arn})
    await migrate(gateway)
    await gateway.store.close()


async def cancelled_batch(system: System) -> str:
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.cancel(batch.id)
    await system.deliver_all()
    return batch.id


async def test_the_end_of_a_batch_is_one_event_with_openais_body(system: System, bus: Bus) -> None:
    await deploy(system, BUS)
    batch_id = await cancelled_batch(system)

    [event] = bus.taken
    [delivery] = system.select("SELECT * FROM deliveries")
    assert (delivery["status"], delivery["created_at"]) == ("delivered", event.created_at)
    assert event.type == "batch.cancelled"
    assert json.loads(event.detail) == {
        "id": f"evt_{batch_id.removeprefix('batch_')}",
        "object": "event",
        "created_at": int(delivery["created_at"].timestamp()),
        "type": "batch.cancelled",
        "data": {"id": batch_id},
    }


async def test_a_worker_killed_between_any_two_steps_puts_the_event_nevertheless(system: System, bus: Bus) -> None:
    async def scenario(step: int) -> bool:
        await deploy(system, BUS)
        batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
        await system.cancel(batch.id)
        bus.taken.clear()
        died = await killed_at(system, step, system.deliver_all)
        for _ in range(3):
            system.age(80)
            await system.run_schedule()
            await system.deliver_all()
        assert {json.loads(one.detail)["data"]["id"] for one in bus.taken} == {batch.id}
        return died

    assert await at_every_step(system, scenario) > 10


async def test_an_event_that_the_bus_does_not_take_is_put_again(system: System, bus: Bus) -> None:
    await deploy(system, BUS.replace("batches", "gone"))
    await cancelled_batch(system)
    [delivery] = system.select("SELECT * FROM deliveries")
    assert (delivery["status"], delivery["attempts"]) == ("pending", 1)
    assert delivery["error"].startswith("The event bus ")

    await deploy(system, BUS)
    system.age(30)
    await system.run_schedule()
    await system.deliver_all()

    assert len(bus.taken) == 1


async def test_a_deploy_without_a_bus_ends_the_events(system: System, bus: Bus) -> None:
    await deploy(system, BUS)
    await deploy(system, "")
    await cancelled_batch(system)

    assert bus.taken == []
    assert system.select("SELECT 1 FROM webhooks") == system.select("SELECT 1 FROM deliveries") == []


async def test_the_admin_alone_sees_the_bus_and_cannot_delete_it(gateway: Gateway) -> None:
    key = "sk-another"
    gateway.queue = InMemoryQueue(CrashPoints())
    async with gateway.store.session() as tables:
        await tables.webhooks.set_event_bus(BUS, ["batch.completed"])
        await tables.keys.insert(Key(id="key_another", token_hash=key_hash(key), name="another"))
    async with client(create(gateway)) as admin, client(create(gateway), key) as other:
        [shown] = (await admin.get("/webhooks")).json()["data"]
        refused = await admin.delete("/webhooks/webhook_event_bus")
        webhook = {"url": "https://example.com/", "events": ["batch.failed"]}
        made = [(await admin.post("/webhooks", json=webhook)).status_code for _ in range(11)]
        seen = (await other.get("/webhooks")).json()["data"]
        unseen = await other.delete("/webhooks/webhook_event_bus")

    assert (shown["id"], shown["url"]) == ("webhook_event_bus", BUS)
    assert refused.status_code == 409
    assert "BatchEventBusArn" in refused.json()["error"]["message"]
    assert made == [200] * 10 + [400], "the bus is none of the admin's ten"
    assert (seen, unseen.status_code) == ([], 404)


def test_nothing_is_built_for_a_bus_before_the_first_event() -> None:
    assert vars(EventBus()) == {}
