"""Each batch dialect under faults: a refusal had no effect, anything else is unclear, and no job is created twice."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from local.provider import Quota, Simulator
from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA_CODES
from manifold.providers import Endpoint, Job, JobStatus
from tests.support.batch_driver import BatchDriver, Sent, dialects

pytest_plugins = ("tests.support.batch_driver",)
pytestmark = pytest.mark.usefixtures("closed_batches")

HTML = "<!DOCTYPE html><html><body>Service unavailable</body></html>"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A dialect with an ended job, before a failure."""

    batches: BatchDriver
    sent: Sent
    ref: str
    status: JobStatus

    @property
    def job(self) -> Job:
        return self.batches.job(self.sent)


@pytest.fixture
async def scenario(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Scenario:
    batches = BatchDriver(request.param, simulated_provider, timeout=1.0)
    batches.pace()
    sent = await batches.prepare(batches.lines())
    ref = await batches.submit(sent)
    return Scenario(batches, sent, ref, await batches.ended(ref))


async def _prepare(scenario: Scenario) -> object:
    return await scenario.batches.prepare(scenario.batches.lines())


async def _submit(scenario: Scenario) -> object:
    return await scenario.batches.submit(scenario.sent, "job_b2")


async def _find(scenario: Scenario) -> object:
    return await scenario.batches.provider.find(scenario.batches.at, scenario.job)


async def _poll(scenario: Scenario) -> object:
    return await scenario.batches.poll(scenario.ref)


async def _cancel(scenario: Scenario) -> None:
    await scenario.batches.provider.cancel(scenario.batches.at, scenario.ref)


async def _results(scenario: Scenario) -> object:
    ref = scenario.status.output_ref
    assert ref is not None
    return [chunk async for chunk in scenario.batches.provider.results(scenario.batches.at, ref)]


async def _inputs(scenario: Scenario) -> object:
    return [one async for one in scenario.batches.provider.inputs(scenario.batches.at)]


async def _discard(scenario: Scenario) -> None:
    ref = scenario.sent.prepared.ref or scenario.status.output_ref
    assert ref is not None
    await scenario.batches.provider.discard(scenario.batches.at, ref)


Act = Callable[[Scenario], Awaitable[object]]
ACTS: dict[str, Act] = {
    "prepare": _prepare,
    "submit": _submit,
    "find": _find,
    "poll": _poll,
    "cancel": _cancel,
    "results": _results,
    "inputs": _inputs,
    "discard": _discard,
}


def acts(*but: str, bodies: bool = False) -> pytest.MarkDecorator:
    """Each dialect with each act that makes a call there, but these; with `bodies`, those whose answer has a body."""
    params = [
        pytest.param(*one.values, name, id=f"{one.id}-{name}")
        for one in dialects()
        for name in ACTS
        if name in one.values[0].routes and name not in but and not (bodies and name in one.values[0].bodiless)
    ]
    return pytest.mark.parametrize(("scenario", "act"), params, indirect=["scenario"])


def _with_secret(at: Endpoint, secret: str) -> Endpoint:
    """The endpoint with another key, of whichever kind its provider has."""
    if at.signature is not None:
        return replace(at, signature=replace(at.signature, secret_access_key=secret))
    if "vertex_credentials" in at.options:
        known = json.loads(at.options["vertex_credentials"]) | {"private_key": secret}
        return replace(at, options={**at.options, "vertex_credentials": json.dumps(known)})
    return replace(at, api_key=secret)


each = pytest.mark.parametrize("scenario", dialects(), indirect=True)
each_create = pytest.mark.parametrize(
    "how",
    [
        pytest.param({"kind": "cut", "when": "after"}, id="cut"),
        pytest.param({"kind": "error", "when": "after"}, id="error"),
        pytest.param({"kind": "garbage", "when": "after"}, id="garbage"),
        pytest.param({"kind": "truncate"}, id="truncated"),
    ],
)


@acts()
@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_key_is_a_lasting_refusal(scenario: Scenario, act: str, status: int) -> None:
    scenario.batches.fail("refuse", act, status=status, times=None)
    with pytest.raises(ProviderRefused) as caught:
        await ACTS[act](scenario)
    assert (caught.value.status, caught.value.lasting) == (status, True)


@acts()
async def test_a_rate_limit_is_a_refusal_for_now(scenario: Scenario, act: str) -> None:
    scenario.batches.fail("rate_limit", act, retry_after="7", times=None)
    with pytest.raises(ProviderRefused) as caught:
        await ACTS[act](scenario)
    assert (caught.value.status, caught.value.retry_after, caught.value.lasting) == (429, 7, False)


@acts()
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"kind": "error"}, id="500"),
        pytest.param({"kind": "error", "status": 503}, id="503"),
        pytest.param({"kind": "cut"}, id="cut before"),
        pytest.param({"kind": "cut", "when": "after"}, id="cut after"),
    ],
)
async def test_any_other_failure_is_unclear(scenario: Scenario, act: str, how: dict[str, Any]) -> None:
    scenario.batches.fail(**{"act": act, "times": None, **how})
    with pytest.raises(ProviderUnclear):
        await ACTS[act](scenario)


@acts(bodies=True)
async def test_an_answer_that_breaks_off_is_unclear(scenario: Scenario, act: str) -> None:
    scenario.batches.fail("truncate", "fetched" if act == "results" else act, ranges=False, times=None)
    with pytest.raises(ProviderUnclear):
        await ACTS[act](scenario)


@acts("results", "discard", "cancel", bodies=True)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"kind": "garbage"}, id="garbage"),
        pytest.param({"kind": "inject", "text": HTML}, id="html"),
        pytest.param({"kind": "inject", "text": "[" * 5000}, id="nested"),
    ],
)
async def test_an_answer_that_is_no_json_is_unclear(scenario: Scenario, act: str, how: dict[str, Any]) -> None:
    scenario.batches.fail(**{"act": act, "times": None, **how})
    with pytest.raises(ProviderUnclear):
        await ACTS[act](scenario)


@acts("prepare", "submit", "results")
async def test_a_late_answer_is_unclear(scenario: Scenario, act: str) -> None:
    scenario.batches.fail("hang", act, times=None)
    with pytest.raises(ProviderUnclear):
        await ACTS[act](scenario)


@each
async def test_a_wrong_key_is_named_nowhere(scenario: Scenario) -> None:
    batches, secret = scenario.batches, "wrong-secret-key-0001"
    wrong = _with_secret(batches.at, secret)
    with pytest.raises(ProviderRefused) as caught:
        await batches.provider.submit(wrong, scenario.job)
    assert caught.value.status in (401, 403)
    assert caught.value.lasting
    assert secret not in f"{caught.value!r} {caught.value} {caught.value.detail} {caught.value.raw_detail}"


@each
@each_create
async def test_an_unclear_create_that_happened_is_found(scenario: Scenario, how: dict[str, Any]) -> None:
    batches = scenario.batches
    batches.simulator.state.stall(batches.dialect.account, "in_progress")
    batches.fail(**{"act": "submit", **how})
    job = batches.job(scenario.sent, "job_b2", others=[scenario.ref])
    with pytest.raises(ProviderUnclear):
        await batches.provider.submit(batches.at, job)
    assert len(batches.created()) == 2

    if batches.dialect.finds == "exact":
        assert await batches.provider.find(batches.at, job) is not None
    else:
        with pytest.raises(ProviderUnclear):
            await batches.provider.find(batches.at, job)
    batches.simulator.state.stall(batches.dialect.account, None)
    found = await _found(batches, job)
    assert found.endswith(batches.created()[1])
    assert found != scenario.ref
    assert len(batches.created()) == 2


async def _found(batches: BatchDriver, job: Job) -> str:
    """The job, once its results can be read."""
    for _ in range(200):
        try:
            if ref := await batches.provider.find(batches.at, job):
                return ref
        except ProviderUnclear:
            await asyncio.sleep(0.02)
    raise AssertionError("the job was not found")


@each
async def test_an_unclear_create_that_never_happened_is_not_found(scenario: Scenario) -> None:
    batches = scenario.batches
    batches.fail("cut", "submit")
    job = batches.job(scenario.sent, "job_b2", others=[scenario.ref])
    with pytest.raises(ProviderUnclear):
        await batches.provider.submit(batches.at, job)

    assert await batches.provider.find(batches.at, job) is None
    later = job._replace(created_at=int(time.time()) + 100_000)
    assert await batches.provider.find(batches.at, later) is None


@each
async def test_a_job_of_another_input_is_not_found(scenario: Scenario) -> None:
    """Another job of the same size at the same time is taken for none of ours."""
    batches = scenario.batches
    other = await batches.prepare(batches.lines(), "input_b2")

    assert await batches.provider.find(batches.at, batches.job(other, "job_b2")) is None


@each
async def test_a_create_over_the_quota_is_refused_for_now(scenario: Scenario) -> None:
    batches, account = scenario.batches, scenario.batches.dialect.account
    batches.simulator.state.stall(account, "in_progress")
    await batches.submit(scenario.sent, "job_b2")
    batches.simulator.limit(account, batches.at.model, Quota(max_enqueued_tokens=1))

    with pytest.raises(ProviderRefused) as caught:
        await batches.submit(scenario.sent, "job_c3")

    assert not isinstance(caught.value, InputLost)
    assert not caught.value.lasting
    assert caught.value.status == 429 or caught.value.code in QUOTA_CODES


@each
async def test_a_job_that_is_gone_is_lost(scenario: Scenario) -> None:
    batches = scenario.batches
    batches.fail_job(ending={"state": "gone"})
    ref = await batches.submit(scenario.sent, "job_b2")
    for _ in range(100):
        status = (await batches.poll(ref)).get(ref)
        if status is not None and status.lost:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the job was never lost")


@each
async def test_counts_that_come_late_and_as_texts_are_counted(scenario: Scenario) -> None:
    batches = scenario.batches
    batches.fail_job(late_counts=True, text_counts=True)
    outcome = await batches.outcome(scenario.sent, await batches.submit(scenario.sent, "job_b2"))
    assert len(outcome.answers) == len(scenario.sent.custom_ids)


@each
async def test_results_that_are_shuffled_and_few_keep_their_ids(scenario: Scenario) -> None:
    batches = scenario.batches
    batches.fail_job(shuffled=True, missing=1)
    outcome = await batches.outcome(scenario.sent, await batches.submit(scenario.sent, "job_b2"))
    assert len(outcome.answers) == len(scenario.sent.custom_ids) - 1
    assert not outcome.invalid
    for custom_id in outcome.answers:
        said = json.dumps(outcome.body(custom_id))
        assert f'echo: hello number {custom_id.removeprefix("request-")}"' in said


@pytest.mark.parametrize("scenario", dialects(lambda one: "cancel" in one.routes), indirect=True)
async def test_a_cancel_that_is_refused_is_an_error(scenario: Scenario) -> None:
    batches = scenario.batches
    batches.simulator.state.stall(batches.dialect.account, "in_progress")
    ref = await batches.submit(scenario.sent, "job_b2")
    batches.fail("refuse", "cancel", status=400)
    with pytest.raises(ProviderRefused):
        await batches.provider.cancel(batches.at, ref)


@pytest.mark.parametrize("scenario", dialects(lambda one: "cancel" in one.routes), indirect=True)
async def test_a_cancel_of_a_job_that_is_not_known_has_not_been_taken(scenario: Scenario) -> None:
    scenario.batches.simulator.state.batches.forget(scenario.batches.created()[0])
    with pytest.raises(ProviderRefused) as caught:
        await _cancel(scenario)
    assert caught.value.status == 404


@each
async def test_results_that_break_off_go_on_or_are_unclear(scenario: Scenario) -> None:
    scenario.batches.fail("truncate", "fetched", ranges=True)
    try:
        outcome = await scenario.batches.outcome(scenario.sent, scenario.ref)
    except ProviderUnclear:
        return
    assert len(outcome.answers) == len(scenario.sent.custom_ids)
