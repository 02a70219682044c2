"""Which deployments never get a batch: those without its endpoint, and those whose jobs must have more requests."""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.provider import Simulator
from local.provider.defects import Defects
from local.provider.line_faults import LineFault
from manifold.profiles import profile_of
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.openai.batches import OpenAIBatches
from manifold.providers.registry import close_providers
from manifold.schemas import Batch
from tests.integration.test_translated_batches import StrictTranslator
from tests.support.aws import Aws
from tests.support.provider import chat_line, chat_lines
from tests.support.system import FAST_PACE, System

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")

GROUP = "group"
Start = Callable[[Mapping[str, Mapping[str, Any]]], System]
"""Starts a system with a deployment for each provider (its id), with these `litellm_params`."""


@pytest.fixture
async def start(database_url: str, simulated_provider: Simulator, aws: Aws, tmp_path: Path) -> AsyncIterator[Start]:
    started: list[System] = []

    def begin(deployments: Mapping[str, Mapping[str, Any]]) -> System:
        address = {"api_base": "os.environ/OPENAI_PROVIDER_API_BASE", "api_key": "os.environ/OPENAI_PROVIDER_API_KEY"}
        models = [
            {
                "model_name": GROUP,
                "litellm_params": {"model": f"{provider}/gpt-4.1-mini", **address, **params},
                "model_info": {"id": provider, "mode": "batch"},
            }
            for provider, params in deployments.items()
        ]
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model_list": models}))
        simulated_provider.state.batches.pace = FAST_PACE
        started.append(System(database_url, simulated_provider, aws, str(tmp_path / "config.yaml")))
        return started[-1]

    yield begin
    for system in started:
        await system.close()
    await close_providers()


async def run(system: System, content: bytes, endpoint: str = "/v1/chat/completions") -> Batch:
    batch = await system.create((await system.upload(content)).id, endpoint=endpoint)
    return await system.run_until_ended(batch.id)


def used(system: System) -> tuple[list[str], list[str]]:
    """The deployments that got lines, and those that got jobs."""
    rows = system.select("SELECT deployment_id FROM inputs"), system.select("SELECT deployment_id FROM jobs")
    inputs, jobs = (sorted(row["deployment_id"] for row in some) for some in rows)
    return inputs, jobs


def executions(system: System) -> list[str]:
    """Who ran each job, the first one first."""
    return [row["execution"] for row in system.select("SELECT execution FROM jobs ORDER BY created_at")]


def codes(batch: Batch) -> list[tuple[str | None, str | None]]:
    assert batch.errors is not None
    return [(error.code, error.message) for error in batch.errors.data]


RESPONSES = b'{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"group","input":"Hello"}}\n'


async def test_a_batch_runs_only_where_its_endpoint_is(start: Start) -> None:
    """Groq documents batches of chat alone, whatever its `order` is."""
    system = start({"groq": {"order": 1}, "openai": {"order": 2}})
    assert (await run(system, RESPONSES, "/v1/responses")).status == "completed"
    assert used(system) == (["openai"], ["openai"])


async def test_a_batch_whose_endpoint_no_deployment_has_fails_and_says_so(start: Start) -> None:
    system = start({"groq": {}})
    batch = await run(system, RESPONSES, "/v1/responses")
    assert batch.status == "failed"
    assert codes(batch) == [("invalid_endpoint", "No deployment of the model runs batches for /v1/responses.")]
    assert used(system) == ([], [])


async def test_a_batch_is_not_sent_where_it_is_too_small(start: Start) -> None:
    system = start({"groq": {"order": 1, "min_batch_requests": 3}, "openai": {"order": 2}})
    assert (await run(system, chat_lines(GROUP, 2))).status == "completed"
    assert used(system) == (["openai"], ["openai"])


async def test_a_batch_that_is_large_enough_is_sent_there(start: Start) -> None:
    system = start({"groq": {"order": 1, "min_batch_requests": 3}, "openai": {"order": 2}})
    assert (await run(system, chat_lines(GROUP, 3))).status == "completed"
    assert used(system)[1] == ["groq"]


MODERATIONS = b"".join(
    b'{"custom_id":"%d","method":"POST","url":"/v1/moderations","body":{"model":"group","input":"Hello"}}\n' % number
    for number in range(2)
)


async def test_a_batch_too_small_for_all_runs_here(start: Start) -> None:
    system = start({"openai": {"min_batch_requests": 4}})
    batch = await run(system, chat_lines(GROUP, 2))
    assert (batch.status, batch.request_counts.completed) == ("completed", 2)
    assert executions(system) == ["gateway"]


async def test_a_batch_too_small_without_what_cannot_be_sent_runs_here(start: Start) -> None:
    system = start({"anthropic": {"min_batch_requests": 3}})
    batch = await run(system, chat_lines(GROUP, 2) + chat_line(GROUP, "bad", logit_bias={"1": 1}))
    assert executions(system) == ["gateway", "gateway"]
    assert (batch.status, batch.request_counts.failed) == ("completed", 3), "the address is not Anthropic's"
    assert codes(batch) == [(None, "The provider answered HTTP 404: Not Found")]


async def test_one_that_cannot_run_here_fails_and_says_how_many_requests_it_needs(start: Start) -> None:
    """The gateway has no calls of moderations."""
    system = start({"nebius": {"min_batch_requests": 3}, "openai": {"min_batch_requests": 4}})
    batch = await run(system, MODERATIONS, "/v1/moderations")
    assert batch.status == "failed"
    message = "The model's deployments run batches of 3 requests and more. Send more requests in one batch."
    assert codes(batch) == [("too_few_requests", message)]
    assert used(system) == ([], [])


async def test_failed_lines_that_are_too_few_run_again_here(start: Start) -> None:
    content = chat_lines(GROUP, 3) + chat_line(GROUP, "busy", "busy")
    system = start({"openai": {"min_batch_requests": 3}})
    lines = LineFault(status=429, marker="busy").model_dump()
    system.provider.state.batches.defects["openai"] = Defects.model_validate({"lines": lines})
    batch = await system.create((await system.upload(content)).id, retry_failed_lines=2)
    ended = await system.run_until_ended(batch.id)
    assert (ended.status, ended.request_counts.failed, ended.errors) == ("completed", 0, None)
    assert executions(system) == ["provider", "gateway"]


async def test_parts_of_a_batch_run_where_all_their_requests_can_be_translated(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of a part are made for one deployment after the other, the first in order first."""

    def translator(adapter: OpenAIBatches, at: Endpoint) -> LineTranslator | None:
        return StrictTranslator(at.model) if adapter._profile is profile_of("groq") else None

    monkeypatch.setattr(OpenAIBatches, "translator", translator)
    system = start({"groq": {"order": 1, "max_batch_requests": 2}, "openai": {"order": 2, "max_batch_requests": 2}})

    batch = await run(system, chat_lines(GROUP, 3) + chat_line(GROUP, "bad", logit_bias={"50256": -100}))

    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 4, 0)
    assert used(system)[1] == ["groq", "openai"]
