"""A download follows redirects to public addresses by TLS, and calls the address that was checked."""

from collections.abc import Sequence
from ipaddress import ip_address

import httpx
import pytest

from manifold.errors import ProviderRefused
from manifold.ip_addresses import kind_of, system
from manifold.providers.batch_client import BatchClient
from manifold.providers.http_call import HttpCall
from manifold.providers.redirects import Origin, checked

PUBLIC = Origin("https", "api.example.com", 443)
LOCAL = Origin("http", "127.0.0.1", 8080)
VPC = Origin("https", "llm.internal", 443)
NAMES = {
    "api.example.com": ["93.184.216.34"],
    "store.example.org": ["2606:2800:220:1::1", "93.184.216.35"],
    "llm.internal": ["10.0.0.5"],
    "minio.internal": ["10.1.2.3"],
    "both.example.org": ["127.0.0.1", "93.184.216.36"],
}


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a known name, or the system's reading of an address in any notation."""
    return NAMES.get(host) or await system(host, port)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", "public"),
        ("2606:2800:220:1::1", "public"),
        ("64:ff9b::5db8:d822", "public"),
        ("127.0.0.1", "loopback"),
        ("127.8.8.8", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.31.0.1", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("169.254.169.254", "closed"),
        ("169.254.170.2", "closed"),
        ("::ffff:169.254.169.254", "closed"),
        ("64:ff9b::a9fe:a9fe", "closed"),
        ("64:ff9b:1::a9fe:a9fe", "closed"),
        ("fd00:ec2::254", "closed"),
        ("fe80::1", "closed"),
        ("fec0::1", "closed"),
        ("2002:a9fe:a9fe::1", "closed"),
        ("2001:0:a9fe:a9fe::1", "closed"),
        ("::169.254.169.254", "closed"),
        ("::10.0.0.1", "closed"),
        ("::ffff:0:169.254.169.254", "closed"),
        ("192.0.0.192", "closed"),
        ("168.63.129.16", "closed"),
        ("::", "closed"),
        ("0.0.0.0", "closed"),
        ("0.1.2.3", "closed"),
        ("224.0.0.1", "closed"),
        ("ff02::1", "closed"),
        ("240.0.0.1", "closed"),
        ("255.255.255.255", "closed"),
        ("192.0.2.1", "closed"),
        ("198.18.0.1", "closed"),
    ],
)
def test_whose_an_address_is(address: str, kind: str) -> None:
    assert kind_of(ip_address(address)) == kind


@pytest.mark.parametrize(
    ("base", "target", "address"),
    [
        (PUBLIC, Origin("https", "store.example.org", 443), "93.184.216.35"),
        (PUBLIC, Origin("https", "93.184.216.40", 8443), "93.184.216.40"),
        (PUBLIC, Origin("https", "both.example.org", 443), "93.184.216.36"),
        (LOCAL, Origin("http", "127.0.0.1", 9000), "127.0.0.1"),
        (LOCAL, Origin("https", "store.example.org", 443), "93.184.216.35"),
        (VPC, Origin("https", "minio.internal", 9000), "10.1.2.3"),
    ],
)
async def test_redirects_that_are_followed(base: Origin, target: Origin, address: str) -> None:
    assert await checked(target, base, resolve) == address


@pytest.mark.parametrize(
    ("base", "target"),
    [
        (PUBLIC, Origin("http", "store.example.org", 80)),
        (PUBLIC, Origin("ftp", "store.example.org", 21)),
        (PUBLIC, Origin("https", "minio.internal", 443)),
        (PUBLIC, Origin("http", "127.0.0.1", 9001)),
        (PUBLIC, Origin("https", "2130706433", 443)),
        (PUBLIC, Origin("https", "0x7f.1", 443)),
        (PUBLIC, Origin("https", "localhost", 443)),
        (PUBLIC, Origin("https", "::ffff:169.254.169.254", 443)),
        (LOCAL, Origin("http", "store.example.org", 80)),
        (LOCAL, Origin("http", "169.254.169.254", 80)),
        (LOCAL, Origin("http", "10.0.0.1", 80)),
        (VPC, Origin("http", "minio.internal", 9000)),
        (VPC, Origin("https", "127.0.0.1", 9001)),
        (VPC, Origin("https", "169.254.170.2", 443)),
    ],
)
async def test_redirects_that_are_refused(base: Origin, target: Origin) -> None:
    with pytest.raises(ProviderRefused, match="may not redirect to") as refused:
        await checked(target, base, resolve)
    assert refused.value.lasting


@pytest.mark.parametrize("error", [OSError("no such name"), TimeoutError(), UnicodeError("label too long")])
async def test_a_name_without_an_address_is_a_refusal_that_may_pass(error: Exception) -> None:
    async def fail(host: str, port: int) -> Sequence[str]:
        raise error

    with pytest.raises(ProviderRefused) as refused:
        await checked(Origin("https", "store.example.org", 443), PUBLIC, fail)
    assert not refused.value.lasting


async def test_the_address_that_was_checked_is_called_and_looked_up_once() -> None:
    """A second lookup of this name would return the function's own address."""
    answers = {"rebound.example.org": iter([["93.184.216.35"], ["127.0.0.1"]])}
    seen: list[httpx.Request] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers[host])

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        location = {"location": "https://rebound.example.org:8443/file?signature=1"}
        return httpx.Response(200, content=b"bytes") if len(seen) > 1 else httpx.Response(302, headers=location)

    http = BatchClient(httpx.MockTransport(answer), rebinding)
    call = HttpCall("https://api.example.com/v1/files/f/content", {"Authorization": "Bearer very-secret"}, {}, 5.0)
    assert [chunk async for chunk in http.download(call)] == [b"bytes"]
    await http.close()

    first, second = seen
    assert str(second.url) == "https://93.184.216.35:8443/file?signature=1"
    assert second.headers["host"] == "rebound.example.org:8443"
    assert second.extensions["sni_hostname"] == "rebound.example.org"
    assert "authorization" not in second.headers
    assert second.headers["connection"] == "close"
    assert (first.url.host, "sni_hostname" in first.extensions) == ("api.example.com", False)


async def test_each_hop_is_checked() -> None:
    places = iter(["https://store.example.org/1", "https://minio.internal/2"])
    http = BatchClient(httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": next(places)})), resolve)

    with pytest.raises(ProviderRefused, match="may not redirect to"):
        async for _ in http.download(HttpCall("https://api.example.com/v1/files/f/content", {}, {}, 5.0)):
            pass
    await http.close()
    assert list(places) == []
