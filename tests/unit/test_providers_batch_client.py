"""An HTTP call ends with a value, a definite refusal or an unclear outcome; no error shows a secret."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers.batch_client import BatchClient
from manifold.providers.failures import LONGEST_WAIT, failure, failure_within, retry_after
from manifold.providers.http_call import HttpCall

KEY = "very-secret"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
CALL = HttpCall("https://api.example.com/v1/batches", {"Authorization": f"Bearer {KEY}", "api-key": KEY}, {}, 5.0)
Handler = Callable[[httpx.Request], httpx.Response]


def answering(status: int, **how: object) -> Handler:
    return lambda _: httpx.Response(status, **how)  # type: ignore[arg-type]


def raising(error: Exception) -> Handler:
    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    return handler


async def outcome(handler: Handler) -> ProviderError:
    http = BatchClient(httpx.MockTransport(handler))
    with pytest.raises(ProviderError) as caught:
        await http.call("POST", CALL, {})
    await http.close()
    return caught.value


async def test_bytes_that_are_no_file_have_the_calls_timeout() -> None:
    async def handler(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        return httpx.Response(204)

    with pytest.raises(ProviderUnclear):
        await BatchClient(httpx.MockTransport(handler)).send("DELETE", CALL._replace(timeout=0.01))


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.PoolTimeout("full"),
        httpx.ProxyError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_connection_is_a_refusal_that_may_pass(error: Exception) -> None:
    refusal = await outcome(raising(error))
    assert isinstance(refusal, ProviderRefused)
    assert not refusal.lasting
    assert "api.example.com" in refusal.message


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.WriteError("pipe"),
        httpx.RemoteProtocolError("cut"),
        httpx.DecodingError("gzip"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_call_that_broke_off_is_unclear(error: Exception) -> None:
    assert isinstance(await outcome(raising(error)), ProviderUnclear)


@pytest.mark.parametrize(
    "error", [httpx.UnsupportedProtocol("x"), httpx.InvalidURL("x"), httpx.LocalProtocolError(KEY)]
)
async def test_a_call_that_cannot_be_made_is_a_lasting_refusal(error: Exception) -> None:
    refusal = await outcome(raising(error))
    assert isinstance(refusal, ProviderRefused)
    assert refusal.lasting
    assert KEY not in refusal.message


@pytest.mark.parametrize("status", [301, 307, 400, 401, 402, 403, 404, 405, 410, 413, 415, 422])
async def test_permanent_refusals(status: int) -> None:
    refusal = await outcome(answering(status))
    assert isinstance(refusal, ProviderRefused)
    assert (refusal.status, refusal.lasting) == (status, True)


@pytest.mark.parametrize("status", [409, 423, 425, 429])
async def test_temporary_refusals(status: int) -> None:
    refusal = await outcome(answering(status))
    assert isinstance(refusal, ProviderRefused)
    assert not refusal.lasting


async def test_azures_full_queue_is_a_temporary_refusal() -> None:
    body = {"error": {"code": "token_limit_exceeded", "message": "Enqueued tokens over the limit."}}
    refusal = await outcome(answering(400, json=body))
    assert isinstance(refusal, ProviderRefused)
    assert not refusal.lasting
    assert (refusal.message, refusal.raw_detail) == ("HTTP 400", "Enqueued tokens over the limit.")


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504, 529])
async def test_an_undecided_answer(status: int) -> None:
    unclear = await outcome(answering(status, headers={"retry-after": "4"}))
    assert isinstance(unclear, ProviderUnclear)
    assert (unclear.status, unclear.retry_after) == (status, 4.0)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'"ok"', b"{", b"\xff\xfe"])
async def test_an_unreadable_success_is_unclear(content: bytes) -> None:
    assert isinstance(await outcome(answering(200, content=content)), ProviderUnclear)


async def test_the_key_is_not_told_even_if_the_provider_repeats_it() -> None:
    refusal = await outcome(answering(401, json={"error": {"message": f"Wrong key {KEY}! " + "x" * 5_000}}))
    assert KEY not in str(refusal.raw_detail)
    assert len(str(refusal.raw_detail)) <= 500


@pytest.mark.parametrize(("body", "code"), [({"error": {"code": "nope"}}, "nope"), ({"error": "no"}, ""), ({}, None)])
async def test_the_code_tells_an_api_from_a_page(body: dict[str, object], code: str | None) -> None:
    refusal = await outcome(answering(404, json=body))
    assert isinstance(refusal, ProviderRefused)
    assert refusal.code == code


async def everywhere(host: str, port: int) -> list[str]:
    return ["203.0.114.7"]


async def downloaded(handler: Handler) -> bytes:
    http = BatchClient(httpx.MockTransport(handler), everywhere)
    try:
        return b"".join([chunk async for chunk in http.download(CALL)])
    finally:
        await http.close()


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/other", True),
        ("https://api.example.com/other", True),
        ("https://store.example.org/signed?x=1", False),
        ("https://api.example.com:8443/other", False),
    ],
)
async def test_a_download_follows_without_our_key_to_another_origin(location: str, told: bool) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return (
            httpx.Response(200, content=b"bytes")
            if len(seen) > 1
            else httpx.Response(302, headers={"location": location})
        )

    assert await downloaded(handler) == b"bytes"
    assert [KEY in str(request.headers.multi_items()) for request in seen] == [True, told]


async def test_redirects_have_an_end() -> None:
    with pytest.raises(ProviderRefused):
        await downloaded(answering(302, headers={"location": "/again"}))


async def test_a_call_follows_no_redirect() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(307, headers={"location": "https://elsewhere.example.org"})

    await outcome(handler)
    assert len(seen) == 1


async def test_a_download_cut_short_is_unclear() -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"first"
        raise httpx.ReadError("reset")

    received: list[bytes] = []
    http = BatchClient(httpx.MockTransport(answering(200, content=cut())))

    async def receive() -> None:
        async for chunk in http.download(CALL):
            received.append(chunk)

    with pytest.raises(ProviderUnclear):
        await receive()
    assert received == [b"first"]
    await http.close()


async def test_a_closed_client_can_be_used_again() -> None:
    http = BatchClient(httpx.MockTransport(answering(200, json={})))
    await http.close()
    assert await http.call("GET", CALL) == {}
    await http.close()
    assert await http.call("GET", CALL) == {}
    await http.close()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 2.5 ", 2.5),
        ("-1", 0.0),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("31536000", LONGEST_WAIT),
        ("1e300", LONGEST_WAIT),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_as_a_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=60)
    assert retry_after({"retry-after": format_datetime(moment, usegmt=True)}) == pytest.approx(60, abs=2)
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}) == 0.0
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after-ms": "1e300"}, LONGEST_WAIT),
        ({"retry-after-ms": "inf", "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_milliseconds_come_first(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([{"@type": "x/google.rpc.Help"}, {"@type": RETRY_INFO, "retryDelay": "34.5s"}], 34.5),
        ([{"@type": RETRY_INFO, "retryDelay": "86400s"}], LONGEST_WAIT),
        ([{"@type": RETRY_INFO, "retryDelay": {"seconds": 3}}], None),
        ([{"@type": RETRY_INFO}], None),
        (["RetryInfo", None], None),
        ("34s", None),
    ],
)
def test_google_says_when_within_the_error(details: object, seconds: float | None) -> None:
    body = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}}
    assert failure(429, {}, json.dumps(body).encode(), CALL).retry_after == seconds
    assert failure(429, {"retry-after": "1"}, json.dumps(body).encode(), CALL).retry_after == 1.0
    assert failure_within(body, CALL).retry_after == seconds


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    seconds = retry_after({"retry-after": value, "retry-after-ms": value})
    assert seconds is None or seconds >= 0
