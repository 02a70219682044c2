"""The contract of `manifold.providers.BatchProvider`, held by each adapter against the simulated provider over HTTP."""

import asyncio
import hashlib
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from local.provider import Fault, Simulator
from local.provider.pace import Pace
from manifold.errors import InputLost, ProviderRefused
from manifold.profiles import profile_of
from manifold.providers import ENDED, BatchProvider, Endpoint, Job, JobStatus
from manifold.providers.registry import batch_provider_for, close_providers
from manifold.providers.xai import batches as xai
from tests.support.provider import chat_line, chat_lines, endpoint, input_of, poll_statuses

pytest_plugins = ("tests.support.provider_fixtures",)

Adapter = tuple[BatchProvider, Endpoint]
DIALECTS = (
    pytest.param(("openai", "openai", None), id="openai"),
    pytest.param(("azure", "azure-general", None), id="azure-v1"),
    pytest.param(("azure", "azure-general", "2024-10-21"), id="azure-dated"),
    pytest.param(("xai", "xai", None), id="xai"),
)
OF_OPENAI, OF_XAI = DIALECTS[:-1], DIALECTS[-1:]
CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
async def closed_providers() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=DIALECTS)
def adapter(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Adapter:
    name, account, version = request.param
    return batch_provider_for(name), endpoint(simulated_provider, account, api_version=version)


async def submitted(
    provider: BatchProvider, at: Endpoint, lines: bytes | None = None, job_id: str = "job_1"
) -> tuple[Job, str]:
    prepared = await provider.prepare(at, input_of(lines or chat_lines(at.model, 3)))
    job = Job(job_id, prepared.ref, CHAT, "24h", int(time.time()))
    return job, await provider.submit(at, job)


async def ended(provider: BatchProvider, at: Endpoint, ref: str) -> JobStatus:
    for _ in range(500):
        status = (await poll_statuses(provider, at, [ref]))[ref]
        if status.state in ENDED:
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"{ref} did not end")


async def results(provider: BatchProvider, at: Endpoint, ref: str | None) -> dict[str, dict[str, object]]:
    assert ref is not None
    content = b"".join([chunk async for chunk in provider.results(at, ref)])
    return {line["custom_id"]: line for line in map(json.loads, content.splitlines())}


async def test_a_job_from_input_to_results(adapter: Adapter) -> None:
    provider, at = adapter
    lines = chat_line(at.model, "good", "hello") + chat_line(at.model, "bad", "fail-this-line")

    _, ref = await submitted(provider, at, lines)
    status = await ended(provider, at, ref)

    assert (status.state, status.total, status.completed, status.failed) == ("completed", 2, 1, 1)
    assert list(await results(provider, at, status.output_ref)) == ["good"]
    assert list(await results(provider, at, status.error_ref)) == ["bad"]


async def test_a_job_passes_through_its_states(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    account = _account(simulated_provider, at)
    seen = []
    simulated_provider.state.stall(account, "validating")
    _, ref = await submitted(provider, at)
    for state in ("validating", "in_progress", "finalizing"):
        simulated_provider.state.stall(account, state)
        await asyncio.sleep(0.25)
        seen.append((await poll_statuses(provider, at, [ref]))[ref].state)

    assert seen == ["validating", "in_progress", "in_progress" if _is_xai(at) else "finalizing"]


async def test_the_upload_is_exact_and_named_and_expires(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    content = chat_lines(at.model, 50)

    prepared = await provider.prepare(at, input_of(content, input_id='input "ü"'))

    (received,) = simulated_provider.log(route="files.create")
    assert received["sha256"] == hashlib.sha256(content).hexdigest()
    assert received["file_id"] == prepared.ref
    assert received["models"] == (at.model,)
    assert received["file_name"] == "input %22ü%22.jsonl"
    takes_expiry = at.api_version is None
    assert (prepared.expires_at is not None) == takes_expiry
    if prepared.expires_at is not None:
        assert abs(prepared.expires_at - time.time() - 30 * 86_400) < 60


async def test_an_upload_is_streamed(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    line = chat_line(at.model, "x", "y" * 1_000_000)
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            digest.update(line)
            yield line

    tracemalloc.start()
    try:
        await provider.prepare(at, input_of(chunks(), size=40 * len(line)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    (received,) = simulated_provider.log(route="files.create")
    assert received["sha256"] == digest.hexdigest()
    assert peak < 20_000_000, "the client and the simulated provider together"


async def test_an_input_of_another_length_is_a_programming_error(adapter: Adapter) -> None:
    provider, at = adapter
    content = chat_lines(at.model, 2)
    for size in (len(content) - 1, len(content) + 1):
        with pytest.raises(ValueError, match="does not have its"):
            await provider.prepare(at, input_of(content)._replace(bytes=size))


async def test_find_pages_back_to_the_job_and_no_further(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    job, ref = await submitted(provider, at)
    for number in range(120):
        await provider.submit(at, job._replace(id=f"job_other_{number}"))

    assert await provider.find(at, job) == ref
    assert len(simulated_provider.log(route="batches.list")) == 2
    assert await provider.find(at, job._replace(id="job_absent")) is None
    assert await provider.find(at, job._replace(id="job_absent", created_at=job.created_at + 10_000)) is None
    pages = 2 if _is_xai(at) else 1
    assert len(simulated_provider.log(route="batches.list")) == 4 + pages, "older than the job: one page tells"


async def test_find_knows_a_job_by_its_input_where_the_metadata_was_dropped(
    adapter: Adapter, simulated_provider: Simulator
) -> None:
    provider, at = adapter
    job, ref = await submitted(provider, at)
    simulated_provider.state.batches.get(_account(simulated_provider, at), ref).metadata = None

    assert await provider.find(at, job) == ref
    assert await provider.find(at, job._replace(input_ref="file-other")) is None


async def test_many_jobs_are_asked_for_by_one_listing(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    job, first = await submitted(provider, at)
    refs = [first] + [await provider.submit(at, job._replace(id=f"job_{number}")) for number in range(2, 20)]

    assert set(await poll_statuses(provider, at, refs)) == set(refs)
    assert len(simulated_provider.log(route="batches.list")) == 1
    assert simulated_provider.log(route="batches.retrieve") == []


async def test_a_poll_of_few_asks_for_each(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    job, first = await submitted(provider, at)
    refs = [first, await provider.submit(at, job._replace(id="job_2"))]

    assert set(await poll_statuses(provider, at, refs)) == set(refs)
    assert simulated_provider.log(route="batches.list") == []


async def test_a_job_that_the_provider_lost_has_failed(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    job, first = await submitted(provider, at)
    refs = [first] + [await provider.submit(at, job._replace(id=f"job_{number}")) for number in range(2, 8)]
    simulated_provider.state.batches.forget(first)

    one, many = await poll_statuses(provider, at, [first]), await poll_statuses(provider, at, refs)

    assert one[first].state == many[first].state == "failed"
    assert one[first].errors[0].code == "job_lost"
    assert "failed" not in {many[ref].state for ref in refs[1:]}


@pytest.mark.parametrize("path", ["/nowhere/", "/accounts/of-nobody-"])
async def test_a_404_of_another_address_loses_no_job(adapter: Adapter, path: str) -> None:
    provider, at = adapter
    _, ref = await submitted(provider, at)
    elsewhere = replace(at, base_url=at.base_url.replace("/accounts/", path))

    with pytest.raises(ProviderRefused) as caught:
        await poll_statuses(provider, elsewhere, [ref])
    assert caught.value.status == 404


async def test_a_poll_keeps_what_it_learned(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    job, first = await submitted(provider, at)
    second = await provider.submit(at, job._replace(id="job_2"))
    simulated_provider.fail(Fault(kind="error", route="batches.retrieve"))

    assert len(await poll_statuses(provider, at, [first, second])) == 1


@pytest.mark.parametrize("adapter", OF_XAI, indirect=True)
async def test_a_failed_job_has_a_reason_without_a_code(adapter: Adapter) -> None:
    provider, at = adapter

    _, ref = await submitted(provider, at, chat_line(at.model, "same") * 2)
    status = await ended(provider, at, ref)

    assert status.state == "failed"
    [error] = status.errors
    assert error.message == "JSONL file validation failed: The custom_id 'same' is used more than once."


@pytest.mark.parametrize("adapter", OF_XAI, indirect=True)
async def test_results_of_many_pages_are_all_there(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    lines = chat_lines(at.model, 220) + chat_line(at.model, "bad", "fail-this-line")

    _, ref = await submitted(provider, at, lines)
    status = await ended(provider, at, ref)

    assert len(await results(provider, at, status.output_ref)) == status.completed == 220
    assert list(await results(provider, at, status.error_ref)) == ["bad"]
    assert len(simulated_provider.log(route="batches.results")) == 6, "three pages, read for each of the two"


@pytest.mark.parametrize("adapter", OF_OPENAI, indirect=True)
async def test_a_failed_job_says_why(adapter: Adapter) -> None:
    provider, at = adapter
    lines = chat_line(at.model, "same") + chat_line("another-model", "same")

    _, ref = await submitted(provider, at, lines)
    status = await ended(provider, at, ref)

    assert status.state == "failed"
    assert [(error.code, error.line) for error in status.errors] == [("duplicate_custom_id", 2), ("model_not_found", 2)]


async def test_a_cancel_keeps_partial_results_and_may_be_repeated(
    adapter: Adapter, simulated_provider: Simulator
) -> None:
    provider, at = adapter
    simulated_provider.state.batches.pace = Pace(0, 0.6, 0.05, 0.05, 0)
    _, ref = await submitted(provider, at, chat_lines(at.model, 1_000))
    await asyncio.sleep(0.2)

    await provider.cancel(at, ref)
    await provider.cancel(at, ref)
    status = await ended(provider, at, ref)
    await provider.cancel(at, ref)

    assert status.state == "cancelled"
    assert 0 < len(await results(provider, at, status.output_ref)) == status.completed < status.total == 1_000


async def test_a_cancel_of_an_ended_job_is_no_error(adapter: Adapter) -> None:
    provider, at = adapter
    _, ref = await submitted(provider, at)
    await ended(provider, at, ref)
    await provider.cancel(at, ref)


async def test_a_cancel_of_a_job_that_is_not_known_has_not_been_taken(
    adapter: Adapter, simulated_provider: Simulator
) -> None:
    """The provider may know the job again later, so the cancel must be sent again."""
    provider, at = adapter
    _, ref = await submitted(provider, at)
    simulated_provider.state.batches.forget(ref)

    with pytest.raises(ProviderRefused) as caught:
        await provider.cancel(at, ref)
    assert caught.value.status == 404


async def test_a_cancel_that_was_refused_is_an_error(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    _, ref = await submitted(provider, at)
    simulated_provider.fail(Fault(kind="refuse", route="batches.cancel"))

    with pytest.raises(ProviderRefused):
        await provider.cancel(at, ref)


@pytest.mark.parametrize("adapter", OF_OPENAI, indirect=True)
async def test_an_expired_job_has_partial_results(adapter: Adapter, simulated_provider: Simulator) -> None:
    provider, at = adapter
    simulated_provider.state.batches.pace = Pace(0, 60, 0, 0, 0)
    _, ref = await submitted(provider, at, chat_lines(at.model, 10))
    assert (await poll_statuses(provider, at, [ref]))[ref].state == "in_progress"
    simulated_provider.state.batches.expire(_account(simulated_provider, at), ref)

    status = await ended(provider, at, ref)

    assert status.state == "expired"
    assert len(await results(provider, at, status.output_ref)) == 5
    errors = await results(provider, at, status.error_ref)
    assert {str(line["error"]) for line in errors.values() if "batch_expired" in str(line["error"])}
    assert len(errors) == 5


async def test_discard_deletes_and_may_be_repeated(adapter: Adapter) -> None:
    provider, at = adapter
    prepared = await provider.prepare(at, input_of(chat_lines(at.model, 1)))
    assert prepared.ref is not None

    await provider.discard(at, prepared.ref)
    await provider.discard(at, prepared.ref)

    with pytest.raises(ProviderRefused):
        await provider.submit(at, Job("job_1", prepared.ref, CHAT, "24h", int(time.time())))


async def test_inputs_lists_all_pages_by_name(
    adapter: Adapter, simulated_provider: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, at = adapter
    monkeypatch.setattr(provider, "_profile", profile_of("openai")._replace(files_page=2))
    monkeypatch.setattr(xai, "PAGE", 2)
    _, ref = await submitted(provider, at)
    await ended(provider, at, ref)  # so that there are results, too
    ids = [f"input_{number}" for number in range(5)]
    refs = [(await provider.prepare(at, input_of(chat_lines(at.model, 1), input_id=one))).ref for one in ids]
    names = [f"{one}.jsonl" for one in ids]

    listed = [one async for one in provider.inputs(at)]

    assert {(one.ref, one.name) for one in listed} >= set(zip(refs, names, strict=True))
    assert all(one.created_at is not None and abs(one.created_at - time.time()) < 60 for one in listed)
    assert len(simulated_provider.log(route="files.list")) == (1 if at.api_version else 3)


async def test_inputs_lists_none_where_there_are_none(adapter: Adapter) -> None:
    provider, at = adapter
    assert [one async for one in provider.inputs(at)] == []


async def test_a_job_whose_input_was_lost_is_refused_with_that_reason(adapter: Adapter) -> None:
    provider, at = adapter
    prepared = await provider.prepare(at, input_of(chat_lines(at.model, 3)))
    assert prepared.ref is not None
    await provider.discard(at, prepared.ref)

    with pytest.raises(InputLost) as refusal:
        await provider.submit(at, Job("job_1", prepared.ref, CHAT, "24h", int(time.time())))

    assert refusal.value.lasting


async def test_a_refusal_for_another_reason_is_not_taken_for_a_lost_input(
    adapter: Adapter, simulated_provider: Simulator
) -> None:
    provider, at = adapter
    prepared = await provider.prepare(at, input_of(chat_lines(at.model, 3)))
    simulated_provider.fail(Fault(kind="refuse", route="batches.create"))

    with pytest.raises(ProviderRefused) as refusal:
        await provider.submit(at, Job("job_1", prepared.ref, CHAT, "24h", int(time.time())))

    assert not isinstance(refusal.value, InputLost)


async def test_a_wrong_key_is_a_permanent_refusal_that_does_not_show_the_key(adapter: Adapter) -> None:
    provider, at = adapter
    with pytest.raises(ProviderRefused) as caught:
        await provider.prepare(replace(at, api_key="wrong-secret"), input_of(chat_lines(at.model, 1)))
    assert (caught.value.status, caught.value.lasting) == (401, True)
    assert "wrong-secret" not in str(caught.value)


def _is_xai(at: Endpoint) -> bool:
    return at.model.startswith("grok")


def _account(simulator: Simulator, at: Endpoint) -> str:
    return next(name for name, account in simulator.state.accounts.items() if account.key == at.api_key)
