"""Batches that no deployment takes whole: a group of four deployments with limits, and what their providers got."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from local.provider import Simulator
from local.provider.batch import Batch
from local.provider.quotas import Quota
from manifold.providers.openai.batches import JOB_ID_KEY
from manifold.selection import Selection
from tests.support.provider import chat_line
from tests.support.system import System

GROUP = "large-batch"
DEPLOYMENTS = {
    "general": ("azure-general", "azure", "gpt-4o-mini-general-deployment", "AZURE_API"),
    "special": ("azure-special", "azure", "gpt-4o-mini-special-deployment", "AZURE_API"),
    "mini": ("openai", "openai", "gpt-4.1-mini", "OPENAI_PROVIDER_API"),
    "five": ("openai", "openai", "gpt-5-mini", "OPENAI_PROVIDER_API"),
}
"""By id: account, provider, model, and the variables' prefix."""
Limits = Mapping[str, Mapping[str, int]]
"""`max_…` in `litellm_params`, by deployment."""
Start = Callable[[Limits], System]
"""Starts a system with deployments of these limits, which their providers enforce."""


def write_config(path: Path, limits: Limits) -> str:
    """A `config.yaml` with one group of those deployments that are named in `limits`."""
    models = [
        {
            "model_name": GROUP,
            "litellm_params": {
                "model": f"{provider}/{model}",
                "api_base": f"os.environ/{prefix}_BASE{_suffix(account)}",
                "api_key": f"os.environ/{prefix}_KEY{_suffix(account)}",
                **limits[deployment_id],
            },
            "model_info": {"id": deployment_id, "mode": "batch"},
        }
        for deployment_id, (account, provider, model, prefix) in DEPLOYMENTS.items()
        if deployment_id in limits
    ]
    settings = {"master_key": "os.environ/MANIFOLD_MASTER_KEY"}
    path.write_text(yaml.safe_dump({"model_list": models, "general_settings": settings}))
    return str(path)


def enforce(simulator: Simulator, limits: Limits) -> None:
    """Have the providers refuse what is over these limits."""
    for deployment_id, values in limits.items():
        account, _, model, _ = DEPLOYMENTS[deployment_id]
        simulator.limit(account, model, Quota.model_validate({**values, "tokens": "estimate"}))


def deployment_of(job: Batch) -> str:
    """The deployment (id) that a provider's batch was submitted to."""
    account, model = job.quota_key
    [found] = [one for one, (name, _, own, _) in DEPLOYMENTS.items() if (name, own) == (account, model)]
    return found


def sent(job: Batch) -> list[dict[str, Any]]:
    """The lines that a provider's batch has."""
    return [json.loads(line) for line in job.file.path.read_bytes().splitlines()]


def assert_each_line_sent_once(system: System, batch_id: str, lines: Sequence[dict[str, Any]]) -> list[Batch]:
    """Assert that each shard's job has exactly the shard's lines, with its deployment's model in each.

    Returns the providers' batches in the order of the shards.
    """
    jobs = {job.metadata[JOB_ID_KEY]: job for job in system.jobs_at_providers() if job.metadata}
    shards = system.select(
        f"""SELECT s.selection, s.requests, j.id, j.deployment_id FROM shards s JOIN jobs j ON j.shard_id = s.id
            WHERE s.batch_id = '{batch_id}' AND j.state = 'settled' ORDER BY s.number"""
    )
    assert {shard["id"] for shard in shards} == set(jobs)
    first = 0
    for shard in shards:
        job, selection = jobs[shard["id"]], Selection.parse(shard["selection"])
        assert selection.first == first
        first += shard["requests"]
        model = DEPLOYMENTS[shard["deployment_id"]][2]
        assert deployment_of(job) == shard["deployment_id"]
        expected = lines[selection.first : first]
        assert sent(job) == [{**line, "body": {**line["body"], "model": model}} for line in expected]
    assert first == len(lines)
    return [jobs[shard["id"]] for shard in shards]


async def run_shards(system: System, batch_id: str, rounds: int = 120) -> None:
    """Run the system until every shard of the batch has ended."""
    for _ in range(rounds):
        while system.queue.messages:
            message = system.queue.messages.pop(0)
            if message.kind != "join":
                await system.deliver(message)
        open_shards = system.select(f"SELECT 1 FROM shards WHERE batch_id = '{batch_id}' AND state <> 'ended'")
        if not open_shards:
            return
        system.age(30)
        await system.run_schedule()
    raise AssertionError(system.select(f"SELECT * FROM shards WHERE batch_id = '{batch_id}' AND state <> 'ended'"))


def request(number: int, text: str = "hello", model: str = GROUP) -> bytes:
    """One line of a batch's input."""
    return chat_line(model, f"request-{number}", text)


def _suffix(account: str) -> str:
    return "_2" if account == "azure-special" else ""
