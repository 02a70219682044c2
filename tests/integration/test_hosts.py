"""Hosts with OpenAI's files and batches, each with its profile against the simulated one: one job from start to end.

Groq, Novita and Zhipu, which differ the most, are also held to the contract of all dialects.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from local.provider import Simulator
from local.provider.accounts import HOST_MODELS
from local.provider.hosts import HostName
from manifold.errors import ProviderRefused
from manifold.profiles import PROFILES, profile_of
from manifold.providers import BatchProvider, Endpoint, Job
from manifold.providers.batch_lines import LineRequest
from manifold.providers.registry import batch_provider_for, close_providers
from tests.support.provider import endpoint, input_of, poll_statuses

pytest_plugins = ("tests.support.provider_fixtures",)

BODIES: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/responses": {"input": "Hello"},
}
CASES = [(host, one) for host in sorted(HOST_MODELS) for one in sorted(PROFILES[host].endpoints) if one in BODIES]


@pytest.fixture(autouse=True)
async def closed_providers() -> AsyncIterator[None]:
    yield
    await close_providers()


def lines(provider: BatchProvider, at: Endpoint, route: str) -> bytes:
    """Three lines as the gateway makes them, in the provider's form."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in _lines(provider, at, route))


def _lines(provider: BatchProvider, at: Endpoint, route: str) -> Iterator[Mapping[str, Any]]:
    translator = provider.translator(at)
    for number in range(3):
        body = {"model": at.model, **BODIES[route]}
        if translator is not None:
            yield translator.request(LineRequest(f"input_1-{number}", route, body))
        else:
            yield {"custom_id": f"input_1-{number}", "method": "POST", "url": route, "body": body}


@pytest.mark.parametrize(("host", "route"), CASES)
async def test_a_job_runs_from_start_to_end(host: HostName, route: str, simulated_provider: Simulator) -> None:
    provider, at = batch_provider_for(host), endpoint(simulated_provider, host)
    prepared = await provider.prepare(at, input_of(lines(provider, at, route), input_id="input_1"))
    job = Job("job_1", prepared.ref, route, "24h", int(time.time()), "input_1", 3)

    ref = await provider.submit(at, job)

    assert await provider.find(at, job) == ref
    status = None
    for _ in range(200):
        status = (await poll_statuses(provider, at, [ref]))[ref]
        if status.state == "completed":
            break
        await asyncio.sleep(0.02)
    assert status is not None
    assert (status.state, status.total, status.completed, status.failed) == ("completed", 3, 3, 0)
    assert status.output_ref is not None
    results = b"".join([chunk async for chunk in provider.results(at, status.output_ref)]).splitlines()
    assert sorted(json.loads(line)["custom_id"] for line in results) == [f"input_1-{number}" for number in range(3)]
    assert prepared.ref in [one.ref async for one in provider.inputs(at)], "Zhipu deletes it unless it is told not to"
    await provider.cancel(at, ref)


async def test_perplexity_answers_a_repeated_create_with_the_first_batch(simulated_provider: Simulator) -> None:
    provider, at = batch_provider_for("perplexity"), endpoint(simulated_provider, "perplexity")
    prepared = await provider.prepare(at, input_of(lines(provider, at, "/v1/responses")))
    job = Job("job_1", prepared.ref, "/v1/responses", "24h", int(time.time()))
    assert await provider.submit(at, job) == await provider.submit(at, job)


@pytest.mark.parametrize("host", sorted(HOST_MODELS))
async def test_what_is_not_an_endpoint_of_a_host_is_refused_by_it(
    host: HostName, simulated_provider: Simulator
) -> None:
    """So the gateway, which sends no such batch, is right not to."""
    provider, at = batch_provider_for(host), endpoint(simulated_provider, host)
    [other, *_] = sorted(BODIES.keys() - profile_of(host).endpoints)
    prepared = await provider.prepare(at, input_of(lines(provider, at, min(profile_of(host).endpoints))))
    with pytest.raises(ProviderRefused):
        await provider.submit(at, Job("job_1", prepared.ref, other, "24h", int(time.time())))
