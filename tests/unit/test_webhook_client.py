"""Events go to public addresses by TLS, to the address that was checked, and nowhere else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook

from manifold.signed_event import NotAnswered, SignedEvent
from manifold.store.webhooks import WebhookRow
from manifold.webhook_client import WebhookClient
from tests.support.webhook_endpoint import listening
from webhooks.retry_policy import MAX_ENDPOINT_PAUSE, MAX_PAUSE, endpoint_pause, pause

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT = SignedEvent("evt_1", '{"test": 2432232314}', datetime.fromtimestamp(1614265330, UTC))
PUBLIC = "93.184.215.14"


class Resolver:
    """Resolves each name to the next of these answers."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.8", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "168.63.129.16", "::1", "::", "fe80::1", "fd00::1", "fd00:ec2::254", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0",
    ],
)  # fmt: skip
async def test_a_name_that_resolves_to_no_public_address_is_not_called(address: str) -> None:
    with pytest.raises(NotAnswered, match="no public address"):
        await WebhookClient(resolve=Resolver([address])).post("https://hooks.example.com/", SECRET, EVENT)


async def test_a_name_that_is_rebound_is_checked_at_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is resolved once in an attempt, and the connection goes to what was checked."""
    monkeypatch.setattr("manifold.webhook_client.ATTEMPT_SECONDS", 0.2)
    resolver = Resolver([PUBLIC], ["127.0.0.1"])
    client = WebhookClient(resolve=resolver)
    with listening() as endpoint:
        port = int(endpoint.url.split(":")[2].partition("/")[0])
        for expected in ("did not answer|no connection", "no public address"):
            with pytest.raises(NotAnswered, match=expected):
                await client.post(f"https://rebound.example.com:{port}/", SECRET, EVENT)
    assert resolver.asked == [("rebound.example.com", port)] * 2
    assert endpoint.received == []


async def test_the_connection_goes_to_the_address_and_the_request_names_the_host() -> None:
    with listening() as endpoint:
        port = int(endpoint.url.split(":")[2].partition("/")[0])
        client = WebhookClient(private=True, resolve=Resolver(["127.0.0.1"]))
        assert await client.post(f"http://hooks.example.com:{port}/events?of=mine", SECRET, EVENT) == (204, None)

    [request] = endpoint.received
    assert request.path == "/events?of=mine"
    assert request.headers["host"] == f"hooks.example.com:{port}"
    assert request.body == EVENT.body.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["webhook-timestamp"] == "1614265330"
    assert request.headers["webhook-signature"].startswith("v1,")


async def test_the_signature_is_valid_whatever_the_time_zone_of_the_database() -> None:
    now = datetime.now(timezone(timedelta(hours=-7)))
    with listening() as endpoint:
        assert await WebhookClient(private=True).post(endpoint.url, SECRET, replace(EVENT, sent_at=now)) == (204, None)

    [request] = endpoint.received
    assert Webhook(SECRET).verify(request.body, request.headers) == {"test": 2432232314}


@pytest.mark.parametrize("private", [True, False])
async def test_metadata_addresses_are_never_called(private: bool) -> None:
    client = WebhookClient(private=private, resolve=Resolver(["169.254.169.254"]))
    with pytest.raises(NotAnswered, match="no public address"):
        await client.post("https://hooks.example.com/", SECRET, EVENT)


async def test_plain_http_is_refused_even_to_a_public_address() -> None:
    with pytest.raises(NotAnswered, match="not https"):
        await WebhookClient(resolve=Resolver([PUBLIC])).post("http://hooks.example.com/", SECRET, EVENT)


async def test_an_endpoint_without_tls_or_a_valid_certificate_is_not_answered() -> None:
    with listening() as endpoint:
        url = endpoint.url.replace("http:", "https:")
        with pytest.raises(NotAnswered, match="not secure"):
            await WebhookClient(private=True).post(url, SECRET, EVENT)
    assert endpoint.received == []


async def test_a_name_without_an_address_is_not_answered() -> None:
    async def none(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    with pytest.raises(NotAnswered, match="has no address"):
        await WebhookClient(resolve=none).post("https://hooks.example.com/", SECRET, EVENT)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name again, by itself."""
    with listening() as endpoint, listening() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await WebhookClient(private=True).post(endpoint.url, SECRET, EVENT) == (204, None)
    assert proxy.received == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("1e9", None),
        ("-1", None),
        ("9" * 400, None),
        ("Fri, 27 Nov 2026 06:00:00 GMT", None),
    ],
)
async def test_the_pause_that_an_endpoint_asks_for_is_read_if_it_is_in_seconds(
    header: str, seconds: float | None
) -> None:
    with listening() as endpoint:
        endpoint.statuses, endpoint.retry_after = [429], header
        assert await WebhookClient(private=True).post(endpoint.url, SECRET, EVENT) == (429, seconds)


def test_the_secret_is_not_shown() -> None:
    row = WebhookRow("webhook_1", "https://example.com", [], None, SECRET, 0, None, None, datetime.now(UTC))
    assert SECRET not in repr(row)


def test_pauses_grow_to_their_bounds() -> None:
    assert [4 <= pause(1) <= 6 for _ in range(9)] == [True] * 9
    assert len({pause(3) for _ in range(9)}) > 1, "with jitter"
    assert max(pause(count) for count in range(1, 99)) <= MAX_PAUSE * 1.2
    assert max(endpoint_pause(count) for count in range(1, 10_000)) <= MAX_ENDPOINT_PAUSE * 1.2
    assert pause(5) > 6 * pause(2)
