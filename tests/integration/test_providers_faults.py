"""Every failure at a provider, over HTTP: a definite refusal is `ProviderRefused`, anything else `ProviderUnclear`."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from local.provider import Fault, Simulator
from local.provider.pace import Pace
from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import BatchProvider, Endpoint, Job
from manifold.providers.azure import batches as azure
from manifold.providers.batch_client import BatchClient
from manifold.providers.http_call import HttpCall
from manifold.providers.registry import batch_provider_for, close_providers
from tests.support.provider import chat_lines, endpoint, input_of, poll_statuses

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNTS = {"openai": "openai", "azure": "azure-general"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A provider with a prepared input and a submitted job, before a failure."""

    provider: BatchProvider
    at: Endpoint
    job: Job
    ref: str
    simulator: Simulator

    def fail(self, kind: str, route: str, **how: object) -> None:
        self.simulator.fail(Fault.model_validate({"kind": kind, "route": route, **how}))


@pytest.fixture(autouse=True)
async def closed_providers() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=ACCOUNTS)
async def scenario(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Scenario:
    provider, at = batch_provider_for(request.param), endpoint(simulated_provider, ACCOUNTS[request.param], timeout=1.0)
    prepared = await provider.prepare(at, input_of(chat_lines(at.model, 1)))
    job = Job("job_1", prepared.ref, "/v1/chat/completions", "24h", int(time.time()))
    return Scenario(provider, at, job, await provider.submit(at, job), simulated_provider)


async def _prepare(scenario: Scenario) -> object:
    return await scenario.provider.prepare(scenario.at, input_of(chat_lines(scenario.at.model, 1)))


async def _submit(scenario: Scenario) -> object:
    return await scenario.provider.submit(scenario.at, scenario.job._replace(id="job_2"))


async def _find(scenario: Scenario) -> object:
    return await scenario.provider.find(scenario.at, scenario.job)


async def _poll(scenario: Scenario) -> object:
    return await poll_statuses(scenario.provider, scenario.at, [scenario.ref])


async def _cancel(scenario: Scenario) -> None:
    await scenario.provider.cancel(scenario.at, scenario.ref)


async def _results(scenario: Scenario) -> object:
    return [chunk async for chunk in scenario.provider.results(scenario.at, str(scenario.job.input_ref))]


async def _discard(scenario: Scenario) -> None:
    await scenario.provider.discard(scenario.at, str(scenario.job.input_ref))


Act = Callable[[Scenario], Awaitable[object]]
ACTS: dict[str, tuple[Act, str]] = {
    "prepare": (_prepare, "files.create"),
    "submit": (_submit, "batches.create"),
    "find": (_find, "batches.list"),
    "poll": (_poll, "batches.retrieve"),
    "cancel": (_cancel, "batches.cancel"),
    "results": (_results, "files.content"),
    "discard": (_discard, "files.delete"),
}
each_act = pytest.mark.parametrize(("act", "route"), [pytest.param(*value, id=name) for name, value in ACTS.items()])
each_create = pytest.mark.parametrize(
    "how",
    [
        pytest.param({"kind": "cut", "when": "after"}, id="cut"),
        pytest.param({"kind": "error", "when": "after"}, id="error"),
        pytest.param({"kind": "garbage", "when": "after"}, id="garbage"),
        pytest.param({"kind": "delay", "when": "after", "seconds": 1}, id="timeout"),
        pytest.param({"kind": "truncate"}, id="truncated"),
    ],
)


@each_act
@pytest.mark.parametrize("status", [401, 403])
async def test_permanent_refusals(scenario: Scenario, act: Act, route: str, status: int) -> None:
    scenario.fail("refuse", route, status=status)
    with pytest.raises(ProviderRefused) as caught:
        await act(scenario)
    assert (caught.value.status, caught.value.lasting) == (status, True)
    assert "told to do this" in str(caught.value.raw_detail)


@each_act
async def test_a_rate_limit_is_a_temporary_refusal(scenario: Scenario, act: Act, route: str) -> None:
    scenario.fail("rate_limit", route, retry_after="7")
    with pytest.raises(ProviderRefused) as caught:
        await act(scenario)
    assert (caught.value.status, caught.value.lasting, caught.value.retry_after) == (429, False, 7.0)


async def test_retry_after_as_a_date(scenario: Scenario) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    scenario.fail("rate_limit", "batches.create", retry_after=format_datetime(moment, usegmt=True))
    with pytest.raises(ProviderRefused) as caught:
        await _submit(scenario)
    assert caught.value.retry_after == pytest.approx(90, abs=3)


@each_act
async def test_a_server_error_is_an_unclear_outcome(scenario: Scenario, act: Act, route: str) -> None:
    scenario.fail("error", route, status=503, retry_after="3")
    with pytest.raises(ProviderUnclear) as caught:
        await act(scenario)
    assert (caught.value.status, caught.value.retry_after) == (503, 3.0)


@each_act
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cut_connection_is_an_unclear_outcome(scenario: Scenario, act: Act, route: str, when: str) -> None:
    scenario.fail("cut", route, when=when)
    with pytest.raises(ProviderUnclear):
        await act(scenario)


@each_act
async def test_a_truncated_answer_is_an_unclear_outcome(scenario: Scenario, act: Act, route: str) -> None:
    scenario.fail("truncate", route, times=None, ranges=False)
    with pytest.raises(ProviderUnclear):
        await act(scenario)


@pytest.mark.parametrize("name", ["prepare", "submit", "find", "poll", "cancel", "discard"])
async def test_an_unreadable_answer_is_an_unclear_outcome(scenario: Scenario, name: str) -> None:
    act, route = ACTS[name]
    scenario.fail("garbage", route)
    with pytest.raises(ProviderUnclear):
        await act(scenario)


@pytest.mark.parametrize("name", ["submit", "find", "poll", "cancel", "discard"])
async def test_a_late_answer_is_an_unclear_outcome(scenario: Scenario, name: str) -> None:
    act, route = ACTS[name]
    scenario.fail("delay", route, seconds=1)
    with pytest.raises(ProviderUnclear):
        await act(scenario)


@each_act
async def test_a_connection_that_never_opened_did_nothing(scenario: Scenario, act: Act, route: str) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(ProviderRefused) as caught:
            await act(replace(scenario, at=replace(scenario.at, base_url=base)))
    assert (caught.value.status, caught.value.lasting) == (None, False)


@each_create
async def test_an_unclear_create_that_happened_is_found(scenario: Scenario, how: dict[str, object]) -> None:
    job = scenario.job._replace(id="job_2")
    scenario.simulator.fail(Fault.model_validate({"route": "batches.create", **how}))
    with pytest.raises(ProviderUnclear):
        await scenario.provider.submit(scenario.at, job)

    job_id = await scenario.provider.find(scenario.at, job)

    created = [entry for entry in scenario.simulator.log(route="batches.create") if "batch_id" in entry]
    assert [entry["batch_id"] for entry in created] == [scenario.ref, job_id]


async def test_an_unclear_create_that_never_happened_is_not_found(scenario: Scenario) -> None:
    job = scenario.job._replace(id="job_2")
    scenario.fail("cut", "batches.create")
    with pytest.raises(ProviderUnclear):
        await scenario.provider.submit(scenario.at, job)

    assert await scenario.provider.find(scenario.at, job) is None


async def test_a_poll_of_many_survives_a_provider_that_lists_nothing(scenario: Scenario) -> None:
    refs = [scenario.ref] + [
        await scenario.provider.submit(scenario.at, scenario.job._replace(id=f"j{i}")) for i in range(6)
    ]
    scenario.fail("refuse", "batches.list", status=405)

    assert set(await poll_statuses(scenario.provider, scenario.at, refs)) == set(refs)


async def test_a_poll_of_many_jobs_keeps_retry_after(scenario: Scenario) -> None:
    scenario.fail("rate_limit", "batches.list", retry_after="20")
    with pytest.raises(ProviderRefused) as caught:
        await poll_statuses(scenario.provider, scenario.at, [f"batch_{number}" for number in range(10)])
    assert caught.value.retry_after == 20


async def test_a_listing_that_fails_keeps_the_pages_that_were_read(scenario: Scenario) -> None:
    at = replace(scenario.at, timeout=30.0)
    refs = [await scenario.provider.submit(at, scenario.job._replace(id=f"j{number}")) for number in range(100)]
    scenario.fail("delay", "batches.list", seconds=0)
    scenario.fail("rate_limit", "batches.list")

    known = await poll_statuses(scenario.provider, at, [scenario.ref, *refs])

    assert set(known) == set(refs), "the newest page, and no call more once there were too many"
    assert scenario.simulator.log(route="batches.retrieve") == []


async def test_a_slow_file_does_not_time_out(scenario: Scenario) -> None:
    scenario.fail("delay", "files.create", seconds=1)
    assert await _prepare(scenario)


async def test_azure_file_is_awaited_until_processed(simulated_provider: Simulator) -> None:
    simulated_provider.state.batches.pace = Pace(0, 0, 0, 0, processing=0.5)
    provider, at = batch_provider_for("azure"), endpoint(simulated_provider, "azure-general")

    prepared = await provider.prepare(at, input_of(chat_lines(at.model, 1)))

    assert len(simulated_provider.log(route="files.retrieve")) > 1
    assert await provider.submit(at, Job("job_1", prepared.ref, "/v1/chat/completions", "24h", int(time.time())))


async def test_azure_file_that_takes_too_long_refuses_the_job_for_now(
    simulated_provider: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure, "PROCESSING_PAUSES", (0.01,))
    simulated_provider.state.batches.pace = Pace(0, 0, 0, 0, processing=0.5)
    provider, at = batch_provider_for("azure"), endpoint(simulated_provider, "azure-general")
    prepared = await provider.prepare(at, input_of(chat_lines(at.model, 1)))
    job = Job("job_1", prepared.ref, "/v1/chat/completions", "24h", int(time.time()))

    with pytest.raises(ProviderRefused) as caught:
        await provider.submit(at, job)
    assert not caught.value.lasting

    await asyncio.sleep(0.5)
    assert await provider.submit(at, job)


@pytest.mark.parametrize("host", ["localhost", "[::ffff:127.0.0.1]", "2130706433"])
async def test_a_local_provider_s_download_goes_on_to_another_local_address(
    simulated_provider: Simulator, host: str
) -> None:
    account = simulated_provider.state.accounts["openai"]
    with simulated_provider.state.files.result(account.name, "output.jsonl") as output:
        output.write(b"{}\n")
    path = f"/files/{output.file_id}/content"
    port = simulated_provider.url.rpartition(":")[2]
    elsewhere = simulated_provider.base(account.name).replace(f"127.0.0.1:{port}", f"{host}:{port}")
    simulated_provider.fail(Fault(kind="redirect", text=elsewhere + path))
    http = BatchClient()

    with pytest.raises(ProviderRefused) as refused:
        await _read(http, simulated_provider.base(account.name) + path, account.key)
    await http.close()

    assert refused.value.status == 401, "it came to the other address, and without the key"


async def test_a_local_provider_s_download_goes_no_further_than_the_machine(simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="redirect", text="http://169.254.169.254/latest/meta-data/"))
    http = BatchClient()

    with pytest.raises(ProviderRefused, match="may not redirect to"):
        await _read(http, simulated_provider.base("openai") + "/files/f/content", "key")
    await http.close()


async def _read(http: BatchClient, url: str, key: str) -> None:
    async for _ in http.download(HttpCall(url, {"Authorization": f"Bearer {key}"}, {}, 5.0)):
        pass
