"""An answer without an end, or that decodes to a thousand times its size, uses no more memory than its bound."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from local.places import ROOT
from local.provider import Fault, Simulator
from local.provider.faults.fault import Flood
from manifold.errors import ProviderUnclear
from manifold.providers import batch_client, completion_client, response_body
from manifold.providers.batch_client import BatchClient
from manifold.providers.completion_client import CompletionClient
from manifold.providers.http_call import HttpCall
from tests.support.files_app import SPECIAL

pytest_plugins = ("tests.support.provider_fixtures",)

MIB = 1024 * 1024
SLACK = 40 * MIB
"""Bytes for connections, buffers and the garbage collector, beside the bounds."""
UNCLEAR = "ProviderUnclear  "
CLIENTS = {"call": batch_client, "complete": completion_client}
TOO_LARGE = {name: f"{UNCLEAR}an answer of more than {client.MAX_ANSWER} bytes" for name, client in CLIENTS.items()}


@pytest.fixture
def provider(simulated_provider: Simulator) -> Simulator:
    simulated_provider.state.accounts[SPECIAL.name] = SPECIAL
    return simulated_provider


async def flooded(provider: Simulator, plan: dict[str, int], **fault: Any) -> dict[str, Any]:
    """Make so many calls of each kind in a process of its own, and return its report."""
    provider.fail(Fault(times=None, **fault))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.provider_calls_process", provider.base(SPECIAL.name), SPECIAL.key,
        json.dumps(plan),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "layers/common:functions:."},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    measured, _ = await process.communicate()
    assert process.returncode == 0
    return dict(json.loads(measured))


@pytest.mark.parametrize("kind", ["bomb", "endless"])
async def test_an_answer_takes_no_more_than_its_bound(provider: Simulator, kind: Flood) -> None:
    measured = await flooded(provider, {"call": 1, "complete": 1}, kind=kind)

    for name, client in CLIENTS.items():
        assert measured[name]["outcomes"] == [TOO_LARGE[name]]
        assert measured[name]["grew"] < 2 * client.MAX_ANSWER + SLACK


async def test_a_hundred_answers_at_once_take_no_more_than_their_common_bound(provider: Simulator) -> None:
    measured = await flooded(provider, {"complete": 100, "call": 100}, kind="bomb")

    for name, client in CLIENTS.items():
        one = measured[name]
        assert set(one["outcomes"]) <= {TOO_LARGE[name], UNCLEAR + "more bytes than the gateway holds at once"}
        assert one["grew"] < client.MAX_ANSWERS + client.MAX_ANSWER + 2 * SLACK


@pytest.mark.parametrize("kind", ["bomb", "endless"])
async def test_an_error_is_known_by_its_status_whatever_its_body(provider: Simulator, kind: Flood) -> None:
    measured = await flooded(provider, {"call": 1, "complete": 1, "stream": 1, "download": 1}, kind=kind, status=429)

    assert [one["outcomes"] for one in measured.values()] == [["ProviderRefused 429 HTTP 429"]] * 4
    assert max(one["grew"] for one in measured.values()) < SLACK


@pytest.mark.parametrize("kind", ["bomb", "endless"])
async def test_an_event_without_an_end_takes_no_more_than_its_bound(provider: Simulator, kind: Flood) -> None:
    measured = await flooded(provider, {"stream": 1}, kind=kind, content_type="text/event-stream")

    assert measured["stream"]["outcomes"] == [UNCLEAR + "an event without an end"]
    assert measured["stream"]["grew"] < 2 * 8 * MIB + SLACK


async def test_a_file_that_decodes_to_gigabytes_streams(provider: Simulator) -> None:
    measured = await flooded(provider, {"download": 1}, kind="bomb")

    assert measured["download"] == {"outcomes": ["an answer"], "grew": measured["download"]["grew"]}
    assert measured["download"]["grew"] < SLACK


@pytest.mark.parametrize("kind", ["bomb", "endless"])
async def test_a_file_past_all_bounds_is_given_up(
    provider: Simulator, kind: Flood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_client, "MAX_DOWNLOAD", MIB)
    provider.fail(Fault(kind=kind))

    with pytest.raises(ProviderUnclear, match="more than 1048576 bytes"):
        await downloaded(provider)


async def test_a_file_that_trickles_is_given_up(provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_body, "PACE_SECONDS", 0.05)
    provider.fail(Fault(kind="trickle", seconds=0.02))

    with pytest.raises(ProviderUnclear, match="too slowly"):
        await downloaded(provider)


async def test_a_download_has_a_time_limit(provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_client, "TRANSFER_SECONDS", 0.2)
    provider.fail(Fault(kind="trickle", seconds=0.02))

    with pytest.raises(ProviderUnclear, match="TimeoutError"):
        await downloaded(provider)


async def test_an_answer_that_trickles_has_its_call_s_time(provider: Simulator) -> None:
    provider.fail(Fault(kind="trickle", seconds=0.02, times=None))
    client, batches = CompletionClient(), BatchClient()

    with pytest.raises(ProviderUnclear):
        await client.post(call(provider, "chat/completions", 0.3), {})
    with pytest.raises(ProviderUnclear):
        await batches.call("GET", call(provider, "batches/b", 0.3))
    await client.close()
    await batches.close()


async def test_endless_headers_are_given_up(provider: Simulator) -> None:
    provider.fail(Fault(kind="endless_headers", times=None))
    client, batches = CompletionClient(), BatchClient()

    with pytest.raises(ProviderUnclear):
        await client.post(call(provider, "chat/completions", 20.0), {})
    with pytest.raises(ProviderUnclear):
        await batches.call("GET", call(provider, "batches/b", 20.0))
    await client.close()
    await batches.close()


def call(provider: Simulator, path: str, seconds: float = 20.0) -> HttpCall:
    return HttpCall(f"{provider.base(SPECIAL.name)}/{path}", {"Authorization": f"Bearer {SPECIAL.key}"}, {}, seconds)


async def downloaded(provider: Simulator) -> None:
    transfers = BatchClient()
    try:
        async for _ in transfers.download(call(provider, "files/f/content")):
            pass
    finally:
        await transfers.close()
