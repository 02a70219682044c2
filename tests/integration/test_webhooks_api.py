"""`/webhooks`: what a client may register, and what it sees of it."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from manifold.config import Environment
from manifold.gateway import Gateway
from tests.support.gateways import client, sdk
from tests.support.system import CrashPoints, InMemoryQueue
from tests.support.webhook_endpoint import listening
from webhooks.app import create
from webhooks.catalog import MAX_WEBHOOKS

URL = "https://example.com/events"
EVENTS = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
VALID: dict[str, Any] = {"url": URL, "events": ["batch.completed", "batch.failed"]}


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    gateway.queue = InMemoryQueue(CrashPoints())
    async with client(create(gateway)) as opened:
        yield opened


async def test_the_secret_is_shown_once(api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        made = (await api.post("/webhooks", json=VALID | {"name": "Mine"})).json()
        retrieved = await api.get(f"/webhooks/{made['id']}")
        listed = await api.get("/webhooks")

    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert len(secret) == len("whsec_") + 44
    assert (made["object"], made["name"], made["status"]) == ("webhook", "Mine", "active")
    assert (made["url"], made["events"]) == (URL, VALID["events"])
    assert retrieved.json() == made
    assert listed.json()["data"] == [made]
    assert secret not in caplog.text
    assert secret not in retrieved.text + listed.text


@pytest.mark.parametrize(
    ("body", "param", "remedy"),
    [
        ({"url": "http://example.com/"}, "url", "must begin with 'https://'"),
        ({"url": "ftp://example.com/"}, "url", "must begin with 'https://'"),
        ({"url": "example.com"}, "url", "must begin with 'https://'"),
        ({"url": ""}, "url", "ASCII"),
        ({"url": "https://"}, "url", "must have a host"),
        ({"url": "https://me:secret@example.com/"}, "url", "no user"),
        ({"url": "https://example.com/#part"}, "url", "no user, password or fragment"),
        ({"url": "https://example.com:99999/"}, "url", "not a URL"),
        ({"url": "https://[::1"}, "url", "not a URL"),
        ({"url": "https://exämple.com/"}, "url", "punycode"),
        ({"url": "https://example.com/a b"}, "url", "without spaces"),
        ({"url": "https://example.com/\r\nHost: other"}, "url", "without spaces"),
        ({"url": "https://example.com/" + "x" * 2048}, "url", "2048 characters"),
        ({"url": "https://localhost/"}, "url", "must be public"),
        ({"url": "https://127.0.0.1/"}, "url", "must be public"),
        ({"url": "https://10.1.2.3/"}, "url", "must be public"),
        ({"url": "https://169.254.169.254/latest"}, "url", "must be public"),
        ({"url": "https://[::1]/"}, "url", "must be public"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url", "must be public"),
        ({"url": "https://[fd00:ec2::254]/"}, "url", "must be public"),
        ({"events": []}, "events", "at least 1"),
        ({"events": ["batch.started"]}, "events.0", "'batch.completed', 'batch.failed'"),
        ({"name": "x" * 257}, "name", "256 characters"),
        ({"secret": "whsec_mine"}, "secret", "The parameters here are url, events, name"),
    ],
)
async def test_what_cannot_be_registered_is_an_error_that_says_what_to_do(
    api: httpx.AsyncClient, body: dict[str, Any], param: str, remedy: str
) -> None:
    answer = await api.post("/webhooks", json=VALID | body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert remedy in answer.json()["error"]["message"]
    assert (await api.get("/webhooks")).json()["data"] == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "https://10.0.0.1/", "http://localhost/"])
async def test_private_addresses_are_the_choice_of_the_operator(
    gateway: Gateway, api: httpx.AsyncClient, url: str
) -> None:
    gateway.environment = Environment({**gateway.environment.values, "MANIFOLD_PRIVATE_WEBHOOKS": "true"})

    assert (await api.post("/webhooks", json=VALID | {"url": url})).status_code == 200
    for never in ("ftp://127.0.0.1/", "http://169.254.169.254/latest", "https://[fd00:ec2::254]/"):
        assert (await api.post("/webhooks", json=VALID | {"url": never})).status_code == 400


async def test_an_owner_may_have_ten(api: httpx.AsyncClient) -> None:
    made = [(await api.post("/webhooks", json=VALID)).json()["id"] for _ in range(MAX_WEBHOOKS)]

    refused = await api.post("/webhooks", json=VALID)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many_webhooks")
    assert "Delete one first" in refused.json()["error"]["message"]

    await api.delete(f"/webhooks/{made[0]}")
    assert (await api.post("/webhooks", json=VALID)).status_code == 200


async def test_an_event_that_is_named_twice_is_one(api: httpx.AsyncClient) -> None:
    made = await api.post("/webhooks", json=VALID | {"events": ["batch.failed", "batch.failed"]})

    assert made.json()["events"] == ["batch.failed"]


async def test_a_create_that_is_repeated_makes_one_webhook(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = [(await api.post("/webhooks", json=VALID, headers=headers)).json() for _ in range(2)]

    assert first == second
    assert len((await api.get("/webhooks")).json()["data"]) == 1


async def test_a_list_has_pages(api: httpx.AsyncClient) -> None:
    made = [(await api.post("/webhooks", json=VALID)).json()["id"] for _ in range(3)]

    first = (await api.get("/webhooks?limit=2")).json()
    second = (await api.get(f"/webhooks?limit=2&after={first['last_id']}")).json()

    assert [one["id"] for one in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


@pytest.mark.parametrize("path", ["", "/WEBHOOK/deliveries"])
async def test_an_unknown_cursor_is_an_error(api: httpx.AsyncClient, path: str) -> None:
    made = (await api.post("/webhooks", json=VALID)).json()["id"]

    answer = await api.get(f"/webhooks{path.replace('WEBHOOK', made)}?after=nothing")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_cursor")


async def test_a_disabled_webhook_replays_nothing(gateway: Gateway, api: httpx.AsyncClient) -> None:
    made = (await api.post("/webhooks", json=VALID)).json()["id"]
    async with gateway.store.session() as tables:
        await tables.connection.execute("UPDATE webhooks SET disabled_at = now()")

    answer = await api.post(f"/webhooks/{made}/deliveries/delivery_1/replay")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert "create another one" in answer.json()["error"]["message"]


# As OpenAI's SDK manages them. It refuses answers that do not fit its types.


async def test_openais_sdk_manages_webhooks(gateway: Gateway, api: httpx.AsyncClient) -> None:
    webhooks = sdk(create(gateway)).webhooks
    made = await webhooks.create(url=URL, name="Mine", event_types=["batch.completed", "batch.failed"])
    assert made.signing_secret.startswith("whsec_")
    assert (made.url, made.name, made.event_types) == (URL, "Mine", ["batch.completed", "batch.failed"])
    assert made.signing_secret_hint == f"whsec_…{made.signing_secret[-4:]}"
    assert made.id == (await api.get("/webhooks")).json()["data"][0]["id"], "the same rows"

    changed = await webhooks.update(made.id, event_types=["batch.expired"])
    assert (changed.name, changed.event_types, changed.url) == ("Mine", ["batch.expired"], URL)
    assert await webhooks.retrieve(made.id) == changed
    assert (await webhooks.rotate_secret(made.id)).signing_secret != made.signing_secret
    other = await webhooks.create(url=URL, name="Other", event_types=["batch.failed"])
    assert [one.id async for one in webhooks.list(limit=1)] == [other.id, made.id]
    assert (await webhooks.event_types.list()).data == EVENTS
    assert (await webhooks.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await webhooks.retrieve(made.id)


async def test_a_sample_event_is_signed_with_the_webhooks_secret(gateway: Gateway, api: httpx.AsyncClient) -> None:
    gateway.environment = Environment({**gateway.environment.values, "MANIFOLD_PRIVATE_WEBHOOKS": "true"})
    client_of_openai = sdk(create(gateway))
    with listening() as endpoint:
        made = await client_of_openai.webhooks.create(url=endpoint.url, name="Mine", event_types=["batch.failed"])
        endpoint.statuses = [503]
        result = await client_of_openai.webhooks.test(made.id, event_type="batch.expired")

    assert (result.status_code, result.event_type, result.webhook_endpoint_id) == (503, "batch.expired", made.id)
    [request] = endpoint.received
    event = client_of_openai.webhooks.unwrap(request.body, request.headers, secret=made.signing_secret)
    assert event.type == "batch.expired"
    with pytest.raises(openai.BadRequestError, match="did not arrive"):
        await client_of_openai.webhooks.test(made.id, event_type="batch.expired")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"url": "http://example.com/"}, "url"),
        ("", {"url": "https://10.0.0.1/"}, "url"),
        ("", {"event_types": []}, "event_types"),
        ("", {"event_types": ["response.completed"]}, "event_types.0"),
        ("", {"events": ["batch.failed"]}, "events"),
        ("/rotate_secret", {"keep_old_secret_active_for_24_hours": True}, "keep_old_secret_active_for_24_hours"),
        ("/test", {"event_type": "response.completed"}, "event_type"),
    ],
)
async def test_a_change_that_cannot_be_made_changes_nothing(
    api: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    made = (await api.post("/webhook_endpoints", json={"url": URL, "name": "m", "event_types": EVENTS})).json()
    before = (await api.get(f"/webhook_endpoints/{made['id']}")).json()

    answer = await api.post(f"/webhook_endpoints/{made['id']}{path}", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (await api.get(f"/webhook_endpoints/{made['id']}")).json() == before


async def test_another_url_is_another_endpoint(gateway: Gateway, api: httpx.AsyncClient) -> None:
    """It has no failures, and a webhook whose old endpoint was gone is active again; another name changes neither."""
    made = (await api.post("/webhooks", json=VALID)).json()["id"]
    async with gateway.store.session() as tables:
        await tables.connection.execute(
            "UPDATE webhooks SET disabled_at = now(), failures = 9, resumes_at = now() + interval '1 hour'"
        )

    for body, status in ({"name": "New"}, "disabled"), ({"url": URL}, "disabled"), ({"url": f"{URL}/2"}, "active"):
        assert (await api.post(f"/webhook_endpoints/{made}", json=body)).status_code == 200
        assert (await api.get(f"/webhooks/{made}")).json()["status"] == status

    async with gateway.store.session() as tables:
        cursor = await tables.connection.execute("SELECT failures, resumes_at <= now() FROM webhooks")
        assert await cursor.fetchall() == [(0, True)]
