"""Whatever a batch provider answers, an adapter returns checked values, or raises `ProviderError` and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import get_args

import httpx
import pytest

from local.provider import Simulator
from manifold.errors import ProviderError, ProviderUnclear
from manifold.providers import Job, JobState, JobStatus, LineFailure, registry
from manifold.providers.batch_client import BatchClient
from manifold.providers.openai.batch_object import MAX_COUNT, REFERENCE
from tests.support.batch_driver import BatchDriver, Sent, dialects
from tests.support.tampering import PUBLIC_HOST, Recorded, Tampering, in_an_unknown_state, listings, mutants

pytest_plugins = ("tests.support.batch_driver",)

MOST, FEW = 60, 6
"""Mutants with an odd value of one answer."""
SECONDS = 30.0
"""In which each call must have come to an end, with pauses of no length."""


class Scenario:
    """A dialect with an input and an ended job, whose provider's answers can be changed."""

    def __init__(self, batches: BatchDriver, transport: Tampering) -> None:
        self.batches, self.transport = batches, transport
        self.sent: Sent
        self.ref: str
        self.status: JobStatus

    @property
    def job(self) -> Job:
        return self.batches.job(self.sent)


Act = Callable[[Scenario], Awaitable[None]]


@pytest.fixture
async def transport(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tampering]:
    """The adapters' way to the provider: adapters that are made from now on use it."""
    made = Tampering()
    client = BatchClient(made, made.resolve)
    monkeypatch.setattr(registry, "_batch_client", lambda: client)
    registry.batch_provider_for.cache_clear()
    yield made
    await client.close()
    registry.batch_provider_for.cache_clear()


@pytest.fixture
async def scenario(
    request: pytest.FixtureRequest, simulated_provider: Simulator, transport: Tampering, monkeypatch: pytest.MonkeyPatch
) -> Scenario:
    batches = BatchDriver(request.param, simulated_provider)
    made = Scenario(batches, transport)
    made.sent = await batches.prepare(batches.lines())
    made.ref = await batches.submit(made.sent)
    made.status = await batches.ended(made.ref)
    pause = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds, *_: pause(min(seconds, 0.001)))
    return made


async def _prepare(scenario: Scenario) -> None:
    prepared = await scenario.batches.provider.prepare(scenario.batches.at, scenario.sent.data)
    assert prepared.ref is not None
    assert REFERENCE.fullmatch(prepared.ref)
    assert prepared.expires_at is None or type(prepared.expires_at) is int


async def _submit(scenario: Scenario) -> None:
    ref = await scenario.batches.provider.submit(scenario.batches.at, scenario.job._replace(id="job_b2"))
    assert REFERENCE.fullmatch(ref)


async def _find(scenario: Scenario) -> None:
    ref = await scenario.batches.provider.find(scenario.batches.at, scenario.job)
    assert ref is None or REFERENCE.fullmatch(ref)


async def _poll(scenario: Scenario) -> None:
    for ref, status in (await scenario.batches.poll(scenario.ref)).items():
        assert ref == scenario.ref
        _check(status)


async def _poll_many(scenario: Scenario) -> None:
    refs = [scenario.ref, *(f"{scenario.ref[:-1]}{letter}" for letter in "ghijkl")]
    for status in (await scenario.batches.poll(*refs)).values():
        _check(status)


async def _cancel(scenario: Scenario) -> None:
    await scenario.batches.provider.cancel(scenario.batches.at, scenario.ref)


async def _results(scenario: Scenario) -> None:
    ref = scenario.status.output_ref or scenario.status.error_ref
    assert ref is not None
    async for chunk in scenario.batches.provider.results(scenario.batches.at, ref):
        assert isinstance(chunk, bytes)


async def _inputs(scenario: Scenario) -> None:
    async for one in scenario.batches.provider.inputs(scenario.batches.at):
        assert REFERENCE.fullmatch(one.ref)
        assert isinstance(one.name, str)
        assert one.created_at is None or type(one.created_at) is int


async def _discard(scenario: Scenario) -> None:
    ref = scenario.sent.prepared.ref or scenario.status.output_ref
    assert ref is not None
    await scenario.batches.provider.discard(scenario.batches.at, ref)


def _check(status: JobStatus) -> None:
    assert status.state in get_args(JobState)
    for number in (status.total, status.completed, status.failed):
        assert type(number) is int
        assert 0 <= number <= MAX_COUNT
    for named in (status.output_ref, status.error_ref):
        assert named is None or REFERENCE.fullmatch(named)
    for failure in status.errors:
        assert isinstance(failure, LineFailure)
        assert isinstance(failure.message, str)
        assert failure.code is None or isinstance(failure.code, str)


ACTS: dict[str, tuple[str, Act]] = {
    "prepare": ("prepare", _prepare),
    "submit": ("submit", _submit),
    "find": ("find", _find),
    "poll": ("poll", _poll),
    "cancel": ("cancel", _cancel),
    "results": ("results", _results),
    "inputs": ("inputs", _inputs),
    "discard": ("discard", _discard),
}


def acts(*names: str) -> pytest.MarkDecorator:
    """Each dialect with each of these acts that its provider has."""
    return pytest.mark.parametrize(
        ("scenario", "act"),
        [
            pytest.param(*one.values, ACTS[name][1], id=f"{one.id}-{name}")
            for one in dialects()
            for name in names or ACTS
            if ACTS[name][0] in one.values[0].routes
        ],
        indirect=["scenario"],
    )


async def outcome(scenario: Scenario, act: Act) -> ProviderError | None:
    """The error of the call, if it has one. Any other exception, and a call without an end, fails the test."""
    scenario.transport.calls = []
    try:
        await asyncio.wait_for(act(scenario), SECONDS)
    except ProviderError as error:
        return error
    return None


@acts()
async def test_an_odd_answer_is_an_error_of_the_provider_or_harmless(scenario: Scenario, act: Act) -> None:
    assert await outcome(scenario, act) is None
    for number, call in enumerate(scenario.transport.calls[:4]):
        for mutant in mutants(call.body, MOST):
            scenario.transport.changed = {number: call._replace(body=mutant)}
            await outcome(scenario, act)


@acts("poll")
async def test_an_odd_listing_is_no_answer_about_a_job(scenario: Scenario, act: Act) -> None:
    """What a listing does not tell of many jobs is read of each job."""
    assert await outcome(scenario, _poll_many) is None
    call = scenario.transport.calls[0]
    for mutant in mutants(call.body, FEW):
        scenario.transport.changed = {0: call._replace(body=mutant)}
        await outcome(scenario, _poll_many)


@acts("find")
async def test_an_answer_that_is_no_listing_does_not_say_that_a_job_is_absent(scenario: Scenario, act: Act) -> None:
    """A job that is taken for absent would be created again."""
    assert await outcome(scenario, act) is None
    call = scenario.transport.calls[0]
    for mutant in listings(call.body):
        scenario.transport.changed = {0: call._replace(body=mutant)}
        assert isinstance(await outcome(scenario, act), ProviderUnclear), mutant


@pytest.mark.parametrize("scenario", dialects(lambda one: one.states), indirect=True)
async def test_an_unknown_state_is_no_status(scenario: Scenario) -> None:
    """The last known one stands."""
    transport, changed = scenario.transport, dict[int, Recorded]()
    for number in range(2):  # where the listing does not tell, the job itself is read
        assert await outcome(scenario, _poll) is None
        if number < len(transport.calls):
            call = transport.calls[number]
            changed[number] = call._replace(body=in_an_unknown_state(call.body))
            transport.changed = changed
    transport.calls = []

    assert await scenario.batches.poll(scenario.ref) == {}


@pytest.mark.parametrize("origin", ["http://169.254.169.254", "https://10.0.0.1", "http://other.provider.test"])
@pytest.mark.parametrize(
    ("scenario", "act"),
    [
        pytest.param(*one.values, ACTS[name][1], id=f"{one.id}-{name}")
        for one in dialects(lambda one: bool(one.follows))
        for name in sorted(one.values[0].follows)
    ],
    indirect=["scenario"],
)
async def test_a_url_of_the_provider_leads_neither_into_our_network_nor_to_plain_http(
    scenario: Scenario, act: Act, origin: str
) -> None:
    at, url = scenario.batches.at, scenario.batches.simulator.url
    public = {name: value.replace(url, f"https://{PUBLIC_HOST}") for name, value in at.options.items()}
    scenario.batches.at = replace(at, base_url=at.base_url.replace(url, f"https://{PUBLIC_HOST}"), options=public)
    scenario.batches.provider = registry.batch_provider_for(scenario.batches.dialect.provider)
    scenario.transport.public = httpx.URL(url)
    scenario.transport.leads_to = origin
    scenario.sent = await scenario.batches.written(scenario.batches.lines(5), "input_c3")

    assert await outcome(scenario, act) is not None
    assert scenario.transport.calls
    assert {call.url.host for call in scenario.transport.calls} <= {PUBLIC_HOST}
