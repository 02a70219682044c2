"""The events of batches reach their webhooks: each end once or more, signed, to its owner alone, whatever breaks."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import psycopg
import pytest
from standardwebhooks import Webhook

from batches.app import create as create_batches_app
from manifold import webhook_client
from manifold.access import Caller
from manifold.queue import Message
from manifold.store import Store
from manifold.store.batches import Outcome
from tests.support.crashes import at_every_step, killed_at
from tests.support.gateways import client
from tests.support.provider import chat_lines
from tests.support.system import System
from tests.support.webhook_endpoint import WebhookEndpoint, listening
from webhooks import delivery

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
EVENTS = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
ADMIN = Caller(admin=True)
HOURS = 3600


@pytest.fixture
def endpoint() -> Iterator[WebhookEndpoint]:
    with listening() as one:
        yield one


@pytest.fixture
def other() -> Iterator[WebhookEndpoint]:
    with listening() as one:
        yield one


async def webhook_to(system: System, url: str, *events: str) -> Any:
    """A webhook with its secret."""
    return await system.call_webhooks("POST", "/webhooks", json={"url": url, "events": list(events or EVENTS)})


async def open_batch(system: System) -> str:
    """A batch that waits for its first step."""
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    system.queue.messages.clear()
    return batch.id


async def ended_batch(system: System) -> str:
    """A batch that an admin has ended, whose message waits."""
    batch_id = await open_batch(system)
    await system.call("POST", f"/batches/{batch_id}/end")
    return batch_id


async def deliveries(system: System, webhook: Any) -> list[Any]:
    """Newest first."""
    listed: list[Any] = (await system.call_webhooks("GET", f"/webhooks/{webhook['id']}/deliveries"))["data"]
    return listed


async def eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 (another thread or server changes it)
            await asyncio.sleep(0.01)


def change(system: System, statement: str) -> None:
    with psycopg.connect(system._database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


# What is sent.


async def test_openais_sdk_unwraps_the_event_of_a_completed_batch(system: System, endpoint: WebhookEndpoint) -> None:
    webhook = await webhook_to(system, endpoint.url)
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    assert endpoint.received == []
    await system.run_until_ended(batch.id)
    await system.deliver_all()

    [request] = endpoint.received
    sdk = openai.OpenAI(api_key="none", base_url="http://unused")
    event = sdk.webhooks.unwrap(request.body, request.headers, secret=webhook["secret"])
    assert isinstance(event, openai.types.webhooks.BatchCompletedWebhookEvent)
    assert (event.type, event.data.id, event.object) == ("batch.completed", batch.id, "event")
    assert event.created_at == (await system.retrieve(batch.id)).completed_at
    assert event.id == request.headers["webhook-id"] == f"evt_{batch.id.removeprefix('batch_')}"
    assert Webhook(webhook["secret"]).verify(request.body, request.headers) == json.loads(request.body)
    assert set(json.loads(request.body)) == {"id", "object", "created_at", "type", "data"}
    with pytest.raises(openai.InvalidWebhookSignatureError):
        sdk.webhooks.unwrap(request.body + b" ", request.headers, secret=webhook["secret"])
    with pytest.raises(openai.InvalidWebhookSignatureError):
        sdk.webhooks.unwrap(request.body, request.headers, secret="whsec_" + "A" * 44)


@pytest.mark.parametrize("outcome", ["completed", "failed", "expired", "cancelled"])
async def test_each_end_sends_its_event_to_those_that_want_it(
    system: System, endpoint: WebhookEndpoint, other: WebhookEndpoint, outcome: Outcome
) -> None:
    await webhook_to(system, endpoint.url, f"batch.{outcome}")
    await webhook_to(system, other.url, *(one for one in EVENTS if one != f"batch.{outcome}"))
    batch_id = await open_batch(system)
    async with system.gateway.store.transaction() as tables:
        batch = await tables.batch_leases.claim(batch_id, "lease", 60)
        assert batch is not None
        assert await tables.batches.end(batch, outcome)
        assert not await tables.batches.end(batch, outcome), "a second end"

    await system.delivery_run().run()

    [request] = endpoint.received
    assert json.loads(request.body)["type"] == f"batch.{outcome}"
    assert other.received == []


async def test_bad_lines_a_cancel_and_an_admin_send_their_events_at_once(
    system: System, endpoint: WebhookEndpoint
) -> None:
    """By the message that follows the end, without the schedule."""
    await webhook_to(system, endpoint.url)
    failed = await system.create((await system.upload(b'{"custom_id": "1"}\n')).id)
    await system.deliver_all()
    cancelled = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.cancel(cancelled.id)
    await system.deliver_all()
    stopped = await ended_batch(system)
    await system.deliver_all()

    sent = [json.loads(one.body) for one in endpoint.received]
    expected = [("batch.failed", failed.id), ("batch.cancelled", cancelled.id), ("batch.failed", stopped)]
    assert [(one["type"], one["data"]["id"]) for one in sent] == expected


async def test_an_end_that_is_rolled_back_sends_nothing(system: System, endpoint: WebhookEndpoint) -> None:
    await webhook_to(system, endpoint.url)
    batch_id = await open_batch(system)

    async def end_and_fail() -> None:
        async with system.gateway.store.transaction() as tables:
            assert await tables.batches.stop(batch_id, [])
            raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError, match="rolled back"):
        await end_and_fail()

    await system.delivery_run().run()

    assert endpoint.received == []
    assert system.select("SELECT 1 FROM deliveries") == []


# Whatever breaks.


async def test_a_worker_killed_between_any_two_steps_sends_the_event_nevertheless(
    system: System, endpoint: WebhookEndpoint
) -> None:
    async def scenario(step: int) -> bool:
        endpoint.received.clear()
        webhook = await webhook_to(system, endpoint.url)
        batch_id = await open_batch(system)
        await system.cancel(batch_id)
        died = await killed_at(system, step, system.deliver_all)
        for _ in range(3):
            system.age(80)
            await system.run_schedule()
            await system.deliver_all()

        assert endpoint.received
        assert len(set(endpoint.ids)) == 1, "the same each time"
        [sent] = await deliveries(system, webhook)
        assert (sent["status"], sent["type"]) == ("delivered", "batch.cancelled")
        return died

    assert await at_every_step(system, scenario) > 15


async def test_a_lost_message_is_made_up_for_by_the_schedule(system: System, endpoint: WebhookEndpoint) -> None:
    await webhook_to(system, endpoint.url)
    await ended_batch(system)
    system.queue.messages.clear()
    system.age(20)

    await system.run_schedule()
    await system.deliver_all()

    assert len(endpoint.received) == 1


async def test_repeated_messages_and_two_workers_at_once_send_an_event_once(
    system: System, database_url: str, endpoint: WebhookEndpoint
) -> None:
    await webhook_to(system, endpoint.url)
    for _ in range(3):
        await ended_batch(system)
    stores = [Store(lambda: database_url) for _ in range(4)]
    client, bus = system.gateway.webhook_client, system.gateway.event_bus

    await asyncio.gather(*(delivery.DeliveryRun(one, system.queue, client, bus).run() for one in stores))
    await asyncio.gather(*(delivery.DeliveryRun(one, system.queue, client, bus).run() for one in stores))

    assert len(endpoint.ids) == len(set(endpoint.ids)) == 3
    for one in stores:
        await one.close()


# Endpoints that fail.


async def test_an_endpoint_that_fails_gets_the_same_event_again_later(
    system: System, endpoint: WebhookEndpoint
) -> None:
    webhook = await webhook_to(system, endpoint.url)
    await ended_batch(system)
    endpoint.statuses = [500, 503]
    pauses = []
    for _ in range(2):
        await system.delivery_run().run()
        await system.delivery_run().run()  # nothing is due
        [waiting] = await deliveries(system, webhook)
        pauses.append(waiting["next_attempt_at"] - waiting["last_attempt_at"])
        assert waiting["status"] == "pending"
        system.age(20)
    assert waiting["last_error"] == "The endpoint answered 503."
    await system.delivery_run().run()

    [sent] = await deliveries(system, webhook)
    assert (sent["status"], sent["attempts"], sent["last_status_code"]) == ("delivered", 3, 204)
    assert sent["last_error"] is sent["next_attempt_at"] is None
    assert len(endpoint.received) == 3
    assert len(set(endpoint.ids)) == 1
    events = [json.loads(one.body) for one in endpoint.received]
    assert len({(one["id"], one["type"], one["data"]["id"]) for one in events}) == 1
    assert 4 <= pauses[0] <= 7 < 12 <= pauses[1] <= 19


@pytest.mark.parametrize(("retry_after", "least", "most"), [("600", 600, 602), ("999999", 3600, 3602), ("1", 4, 7)])
async def test_an_endpoint_is_left_alone_for_as_long_as_it_asks_up_to_an_hour(
    system: System, endpoint: WebhookEndpoint, retry_after: str, least: int, most: int
) -> None:
    await webhook_to(system, endpoint.url)
    await ended_batch(system)
    endpoint.statuses, endpoint.retry_after = [429], retry_after

    await system.delivery_run().run()

    [webhook] = system.select("SELECT extract(epoch FROM resumes_at - now()) AS pause FROM webhooks")
    assert least - 1 <= webhook["pause"] <= most
    system.age(most)
    await system.delivery_run().run()
    assert len(endpoint.received) == 2


async def test_an_endpoint_that_keeps_failing_gets_one_attempt_however_many_events_wait(
    system: System, endpoint: WebhookEndpoint
) -> None:
    webhook = await webhook_to(system, endpoint.url)
    for _ in range(4):
        await ended_batch(system)
    endpoint.statuses = [500] * 9
    for failures in range(1, 6):
        await system.delivery_run().run()
        assert len(endpoint.received) == failures
        system.age(2000)
    endpoint.statuses.clear()
    await system.delivery_run().run()

    assert {one["status"] for one in await deliveries(system, webhook)} == {"delivered"}
    assert len(set(endpoint.ids)) == 4


async def test_a_hanging_endpoint_delays_no_other(
    system: System, endpoint: WebhookEndpoint, other: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_client, "ATTEMPT_SECONDS", 0.5)
    hanging = await webhook_to(system, endpoint.url)
    await webhook_to(system, other.url)
    endpoint.released.clear()
    await ended_batch(system)

    running = asyncio.create_task(system.delivery_run().run())
    await eventually(lambda: bool(other.received))
    assert not running.done()
    await running

    [waiting] = await deliveries(system, hanging)
    assert waiting["last_error"] == "The endpoint did not answer within 0.5 seconds."
    assert waiting["last_status_code"] is None


async def test_a_fault_at_one_webhook_does_not_stop_the_others(
    system: System, endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, broken = webhook_client.WebhookClient.post, asyncio.Event()

    async def break_at_one(self: Any, url: str, *arguments: Any) -> webhook_client.Answer:
        if url == endpoint.url:
            return await post(self, url, *arguments)
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(webhook_client.WebhookClient, "post", break_at_one)
    await webhook_to(system, "http://127.0.0.1:9/")
    webhook = await webhook_to(system, endpoint.url)
    await ended_batch(system)
    endpoint.released.clear()
    running = asyncio.create_task(system.delivery_run().run())
    await broken.wait()
    await eventually(lambda: bool(endpoint.received))
    endpoint.released.set()

    with pytest.raises(RuntimeError, match="a bug"):
        await running
    assert [one["status"] for one in await deliveries(system, webhook)] == ["delivered"]


async def test_an_owner_has_two_endpoints_called_at_once_and_the_owners_take_turns(system: System) -> None:
    webhooks = [await webhook_to(system, "http://127.0.0.1:9/") for _ in range(4)]
    change(system, "INSERT INTO users (id) VALUES ('ann')")
    batch_id = await open_batch(system)
    change(system, "UPDATE webhooks SET created_at = now()")
    await system.call("POST", f"/batches/{batch_id}/end")
    async with system.gateway.store.session() as tables:
        claims = [await tables.webhooks.claim("lease", 60, 20, 2) for _ in range(2)]
        assert [len(claimed) for claimed in claims] == [2, 0]
        await tables.webhooks.release(claims[0][0])
        [third] = await tables.webhooks.claim("lease", 60, 20, 2)
        change(system, f"UPDATE webhooks SET user_id = 'ann' WHERE id = '{third.id}'")
        assert len(await tables.webhooks.claim("lease", 60, 20, 2)) == 1, "another owner's are not counted"
    assert len(webhooks) == 4


async def test_more_webhooks_of_an_owner_than_are_called_at_once_are_all_sent_in_one_run(
    system: System, endpoint: WebhookEndpoint
) -> None:
    for _ in range(7):
        await webhook_to(system, endpoint.url)
    await ended_batch(system)

    await system.delivery_run().run()

    assert len(endpoint.received) == 7


async def test_a_redirect_is_not_followed(system: System, endpoint: WebhookEndpoint, other: WebhookEndpoint) -> None:
    webhook = await webhook_to(system, endpoint.url)
    endpoint.statuses, endpoint.location = [307], other.url
    await ended_batch(system)

    await system.delivery_run().run()

    [waiting] = await deliveries(system, webhook)
    assert (waiting["status"], waiting["last_status_code"]) == ("pending", 307)
    assert "Redirects are not followed" in waiting["last_error"]
    assert other.received == []


async def test_an_endpoint_that_is_gone_is_sent_nothing_any_more(system: System, endpoint: WebhookEndpoint) -> None:
    webhook = await webhook_to(system, endpoint.url)
    endpoint.statuses = [410]
    await ended_batch(system)
    await ended_batch(system)
    await system.delivery_run().run()
    await ended_batch(system)
    system.age(HOURS)
    await system.run_schedule()
    await system.deliver_all()

    assert len(endpoint.received) == 1
    assert (await system.call_webhooks("GET", f"/webhooks/{webhook['id']}"))["status"] == "disabled"
    newer, older = await deliveries(system, webhook)
    assert (older["status"], older["last_status_code"]) == ("failed", 410)
    assert (newer["status"], newer["last_status_code"]) == ("failed", None)


@pytest.mark.parametrize("status", [410, 503, 200])
async def test_a_late_answer_is_nothing_to_the_endpoint_to_which_a_webhook_was_moved(
    system: System, endpoint: WebhookEndpoint, other: WebhookEndpoint, status: int
) -> None:
    webhook = await webhook_to(system, endpoint.url)
    await ended_batch(system)
    endpoint.statuses = [status]
    endpoint.released.clear()
    sending = asyncio.create_task(system.delivery_run().run())
    await eventually(lambda: len(endpoint.received) == 1)
    await system.call_webhooks("POST", f"/webhook_endpoints/{webhook['id']}", json={"url": other.url})
    endpoint.released.set()
    await sending
    system.age(HOURS)
    await system.run_schedule()
    await system.deliver_all()

    assert (await system.call_webhooks("GET", f"/webhooks/{webhook['id']}"))["status"] == "active"
    assert len(other.received) == (0 if status == 200 else 1)


async def test_an_answer_without_an_end_is_not_read(system: System, endpoint: WebhookEndpoint) -> None:
    webhook = await webhook_to(system, endpoint.url)
    endpoint.statuses, endpoint.endless = [200], True
    await ended_batch(system)

    await system.delivery_run().run()

    assert (await deliveries(system, webhook))[0]["status"] == "delivered"


async def test_an_event_is_given_up_after_72_hours_and_can_be_replayed(
    system: System, endpoint: WebhookEndpoint
) -> None:
    webhook = await webhook_to(system, endpoint.url)
    endpoint.statuses = [500] * 99
    await ended_batch(system)
    for _ in range(35):
        await system.run_schedule()
        await system.deliver_all()
        system.age(2.1 * HOURS)
    await system.run_schedule()
    await system.deliver_all()
    attempts = len(endpoint.received)
    [given_up] = await deliveries(system, webhook)
    assert (given_up["status"], given_up["attempts"], given_up["next_attempt_at"]) == ("failed", attempts, None)
    assert given_up["last_error"] == "The endpoint answered 500."
    assert 20 < attempts < 36

    endpoint.statuses.clear()
    replayed = await system.call_webhooks("POST", f"/webhooks/{webhook['id']}/deliveries/{given_up['id']}/replay")
    assert (replayed["status"], replayed["attempts"]) == ("pending", 0)
    await system.deliver_all()

    [sent] = await deliveries(system, webhook)
    assert (sent["status"], sent["attempts"]) == ("delivered", 1)
    assert len(set(endpoint.ids)) == 1


async def test_a_delivered_event_can_be_replayed(system: System, endpoint: WebhookEndpoint) -> None:
    webhook = await webhook_to(system, endpoint.url)
    await ended_batch(system)
    await system.deliver_all()
    [sent] = await deliveries(system, webhook)

    await system.call_webhooks("POST", f"/webhooks/{webhook['id']}/deliveries/{sent['id']}/replay")
    await system.deliver_all()

    first, second = endpoint.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])


# Deleted webhooks and old rows.


async def test_a_deleted_webhook_gets_nothing_that_waited_for_it(system: System, endpoint: WebhookEndpoint) -> None:
    webhook = await webhook_to(system, endpoint.url)
    await ended_batch(system)
    deleted = await system.call_webhooks("DELETE", f"/webhooks/{webhook['id']}")
    await system.deliver_all()

    assert deleted == {"id": webhook["id"], "object": "webhook", "deleted": True}
    assert endpoint.received == []
    assert system.select("SELECT 1 FROM deliveries") == []


async def test_a_webhook_that_is_deleted_while_a_batch_ends_does_not_stop_the_end(
    system: System, database_url: str, endpoint: WebhookEndpoint
) -> None:
    webhook = await webhook_to(system, endpoint.url)
    batch_id = await open_batch(system)
    deleting = Store(lambda: database_url)
    async with deleting.transaction() as tables:
        assert await tables.webhooks.delete(webhook["id"], ADMIN)
        async with client(create_batches_app(system.gateway)) as api:
            ending = asyncio.create_task(api.post(f"/batches/{batch_id}/end"))
            await eventually(lambda: bool(system.select("SELECT 1 FROM pg_locks WHERE NOT granted")))
    assert (await ending).json()["status"] == "failed"
    assert system.select("SELECT 1 FROM deliveries") == []
    await deleting.close()


async def test_a_webhook_that_changes_while_a_batch_ends_gets_the_event(system: System, database_url: str) -> None:
    """The end waits for the row of its batch, so it began before the change."""
    await webhook_to(system, "http://127.0.0.1:9/")
    batch_id = await open_batch(system)
    with psycopg.connect(database_url) as holding:
        holding.execute("SELECT 1 FROM batches WHERE id = %s FOR UPDATE", (batch_id,))
        async with client(create_batches_app(system.gateway)) as api:
            ending = asyncio.create_task(api.post(f"/batches/{batch_id}/end"))
            await eventually(lambda: bool(system.select("SELECT 1 FROM pg_locks WHERE NOT granted")))
            change(system, "UPDATE webhooks SET failures = 1, lease = 'other'")
            holding.rollback()
            assert (await ending).json()["status"] == "failed"
    assert len(system.select("SELECT 1 FROM deliveries")) == 1


async def test_a_worker_at_a_webhook_does_not_hold_up_the_end_of_a_batch(system: System) -> None:
    await webhook_to(system, "http://127.0.0.1:9/")
    await ended_batch(system)
    second = Store(lambda: system._database_url)
    async with second.transaction() as tables:
        assert len(await tables.webhooks.claim("lease", 60, 20, 2)) == 1
        await ended_batch(system)
    await second.close()
    assert len(system.select("SELECT 1 FROM deliveries")) == 2


async def test_deliveries_are_deleted_with_their_batch(system: System, endpoint: WebhookEndpoint) -> None:
    await webhook_to(system, endpoint.url)
    await ended_batch(system)
    await system.deliver_all()
    system.age(100)

    async with system.gateway.store.session() as tables:
        assert await tables.retention.forget_batches(50, 10) == 1

    assert system.select("SELECT 1 FROM deliveries") == []


def test_no_message_of_another_queue_is_taken() -> None:
    from webhooks.worker import work

    with pytest.raises(ValueError, match="does not belong"):
        asyncio.run(work(Message("batch", "batch_1")))
