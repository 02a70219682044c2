"""A file's copies at the providers: those that are made late, expire, are lost, or are no longer needed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from local.provider import Fault, Simulator
from local.provider.files import File
from manifold.providers.registry import close_providers
from manifold.queue import Message
from tests.support.aws import Aws
from tests.support.provider import chat_lines
from tests.support.system import ACCOUNTS, FAST_PACE, System

pytest_plugins = ("tests.support.system_fixtures", "tests.support.query_fixtures")

ONE, TWO = "gpt-4.1-mini-batch", "gpt-4o-batch"  # groups with so many deployments
MODEL_LIST = """
model_list:
  - model_name: gpt-4.1-mini-batch
    litellm_params:
      model: openai/gpt-4.1-mini
      api_base: os.environ/OPENAI_PROVIDER_API_BASE
      api_key: os.environ/OPENAI_PROVIDER_API_KEY
    model_info: {mode: batch, id: first}
"""
LATE = """
  - model_name: gpt-4.1-mini-batch
    litellm_params:
      model: azure/gpt-4o-mini-general-deployment
      api_base: os.environ/AZURE_API_BASE
      api_key: os.environ/AZURE_API_KEY
    model_info: {mode: batch, id: late}
"""
SETTINGS = """
general_settings:
  master_key: os.environ/MANIFOLD_MASTER_KEY
"""


def copies(system: System) -> list[File]:
    """The files at all providers."""
    files = system.provider.state.files
    return [file for account in ACCOUNTS for file in files.page(account, "batch")[0]]


def uploads(system: System) -> list[str]:
    """The account of each upload, in order."""
    return [entry["account"] for entry in system.provider.log(route="files.create")]


async def upload_to_all(system: System, group: str, **fields: Any) -> str:
    """Upload a file and replicate it to all its deployments."""
    file = await system.upload(chat_lines(group, 2), **fields)
    await system.deliver_all()
    return file.id


async def test_a_submit_writes_no_input_where_all_are_ready(system: System, queries: list[str]) -> None:
    file_id = await upload_to_all(system, TWO)
    queries.clear()

    await system.create(file_id)
    await system.deliver_all()

    assert len(system.jobs_at_providers()) == 1
    assert not [query for query in queries if "INTO inputs" in query or "UPDATE inputs" in query]


async def test_a_deployment_that_came_late_gets_its_input_when_a_batch_needs_it(
    database_url: str, simulated_provider: Simulator, aws: Aws, tmp_path: Path
) -> None:
    simulated_provider.state.batches.pace = FAST_PACE
    config = tmp_path / "config.yaml"
    config.write_text(MODEL_LIST + SETTINGS)
    system = System(database_url, simulated_provider, aws, config=str(config))
    file_id = await upload_to_all(system, ONE)
    config.write_text(MODEL_LIST + LATE + SETTINGS)
    await system.restart()
    system.provider.fail(Fault(kind="rate_limit", account="openai", route="batches.create", times=None))
    assert uploads(system) == ["openai"]

    batch = await system.run_until_ended((await system.create(file_id)).id)

    assert batch.status == "completed"
    assert uploads(system) == ["openai", "azure-general"]
    assert [job.account.name for job in system.jobs_at_providers()] == ["azure-general"]
    await system.close()
    await close_providers()


async def test_a_deployment_that_cannot_take_the_whole_file_gets_no_copy(
    database_url: str, simulated_provider: Simulator, aws: Aws, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    small = LATE.replace("litellm_params:", "litellm_params:\n      max_batch_requests: 1")
    config.write_text(MODEL_LIST + small + SETTINGS)
    system = System(database_url, simulated_provider, aws, config=str(config))

    file_id = await upload_to_all(system, ONE)
    assert uploads(system) == ["openai"]
    batch = await system.run_until_ended((await system.create(file_id)).id)

    assert batch.status == "completed"
    assert uploads(system) == ["openai"]
    await system.close()
    await close_providers()


async def test_a_copy_that_is_about_to_expire_is_made_again(system: System) -> None:
    file_id = await upload_to_all(system, ONE)
    system.select(
        """UPDATE inputs SET updated_at = now() - interval '29 days', expires_at = now() + interval '23 hours'
           RETURNING id"""
    )

    batch = await system.run_until_ended((await system.create(file_id)).id)

    assert batch.status == "completed"
    assert uploads(system) == ["openai"] * 2
    [job] = system.jobs_at_providers()
    assert job.file.id == copies(system)[0].id


@pytest.mark.parametrize("group", [ONE, TWO])
async def test_a_copy_that_the_provider_lost_is_made_again(system: System, group: str) -> None:
    file_id = await upload_to_all(system, group)
    for copy in copies(system):
        system.provider.state.files.remove(copy.account, copy.id)

    batch = await system.run_until_ended((await system.create(file_id)).id)

    assert batch.status == "completed"
    assert len(system.jobs_at_providers()) == 1
    assert system.select("SELECT DISTINCT state FROM inputs ORDER BY 1") == [{"state": "discarded"}, {"state": "ready"}]


async def test_a_provider_that_loses_every_input_is_given_up(system: System) -> None:
    file_id = await upload_to_all(system, ONE)
    batch_id = (await system.create(file_id)).id
    for _ in range(60):
        for copy in copies(system):
            system.provider.state.files.remove(copy.account, copy.id)
        await system.deliver_all()
        system.age(60)
        await system.run_schedule()

    assert (await system.retrieve(batch_id)).status == "failed"
    assert len(uploads(system)) <= 6


async def test_a_slow_deployment_holds_up_no_other(system: System) -> None:
    system.provider.fail(Fault(kind="delay", account="azure-general", route="files.create", seconds=3))
    await system.upload(chat_lines(TWO, 2))
    transfers = [asyncio.create_task(system.deliver(message)) for message in system.queue.messages]

    done, waiting = await asyncio.wait(transfers, return_when=asyncio.FIRST_COMPLETED)

    assert (len(done), len(waiting)) == (1, 1)
    assert [copy.account for copy in copies(system)] == ["azure-special"]
    assert system.select("SELECT state FROM inputs ORDER BY state") == [{"state": "pending"}, {"state": "ready"}]
    await asyncio.gather(*waiting)
    assert system.select("SELECT DISTINCT state FROM inputs") == [{"state": "ready"}]


async def test_the_copies_of_an_expired_file_are_deleted_by_the_schedule(system: System) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    await upload_to_all(system, TWO, **expiry)
    assert len(copies(system)) == 2
    system.age(3500)
    await system.run_schedule()
    await system.deliver_all()
    assert len(copies(system)) == 2

    system.age(101)
    await system.run_schedule()
    await system.deliver_all()

    assert copies(system) == []
    assert system.stored() == []
    assert system.select("SELECT DISTINCT state FROM inputs") == [{"state": "discarded"}]


async def test_the_copies_of_an_expired_file_stay_while_an_open_batch_needs_them(system: System) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file_id = await upload_to_all(system, ONE, **expiry)
    system.provider.state.stall("openai", "in_progress")
    batch_id = (await system.create(file_id)).id
    await system.deliver_all()
    system.age(3601)
    await system.run_schedule()
    await system.deliver_all()
    assert len(copies(system)) == 1

    system.provider.state.stall("openai", None)
    await system.run_until_ended(batch_id)
    await system.run_schedule()
    await system.deliver(Message("file", file_id))

    assert copies(system) == []
