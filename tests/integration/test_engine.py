"""A batch from upload to output, with everything real except the provider, which is simulated."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from local.provider import Fault
from manifold.schemas import Batch
from manifold.store.job_changes import JobEnd, JobPoll
from manifold.store.jobs import Jobs
from tests.support.provider import chat_line, chat_lines
from tests.support.system import ACCOUNTS, System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4o-batch"


@pytest.mark.parametrize("rounds", [0, 2])
async def test_a_batch_runs_to_its_output(system: System, rounds: int) -> None:
    file = await system.upload(chat_lines(GROUP, 3), target_model_names=GROUP)
    batch = await system.create(file.id, metadata={"of": "me"}, retry_failed_lines=rounds)
    assert (batch.status, batch.request_counts.total) == ("validating", 3)

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "completed"
    assert ended.output_file_id is not None
    assert ended.error_file_id is None
    assert (ended.request_counts.completed, ended.request_counts.failed) == (3, 0)
    assert ended.usage is not None
    assert ended.usage.total_tokens > 0
    assert ended.metadata == {"of": "me"}
    assert None not in (ended.in_progress_at, ended.finalizing_at, ended.completed_at)
    lines = [json.loads(line) for line in system.content(ended.output_file_id).splitlines()]
    assert {line["custom_id"] for line in lines} == {"request-0", "request-1", "request-2"}


async def test_both_deployments_get_the_file_each_with_its_own_model(system: System) -> None:
    await system.upload(chat_lines(GROUP, 3), target_model_names=GROUP)
    await system.deliver_all()

    received = {entry["account"]: entry["models"] for entry in system.provider.log(route="files.create")}
    assert received == {
        "azure-general": ("gpt-4o-mini-general-deployment",),
        "azure-special": ("gpt-4o-mini-special-deployment",),
    }


async def test_failed_lines_are_in_the_error_file(system: System) -> None:
    content = chat_line(GROUP, "good") + chat_line(GROUP, "bad", "fail-this-line")
    batch = await system.create((await system.upload(content)).id)

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "completed"
    assert ended.output_file_id is not None
    assert ended.error_file_id is not None
    assert json.loads(system.content(ended.error_file_id))["custom_id"] == "bad"
    assert ended.request_counts.model_dump() == {"total": 2, "completed": 1, "failed": 1}


async def test_with_every_line_failed_there_is_only_an_error_file(system: System) -> None:
    batch = await system.create((await system.upload(chat_line(GROUP, "bad", "fail-this-line"))).id)

    ended = await system.run_until_ended(batch.id)

    assert (ended.status, ended.output_file_id) == ("completed", None)
    assert ended.error_file_id is not None


async def test_bad_lines_fail_the_batch_before_any_provider_is_asked(system: System) -> None:
    content = chat_line(GROUP, "a") + b"not json\n" + chat_line(GROUP, "a") + chat_line("other", "b")
    batch = await system.create((await system.upload(content, target_model_names=GROUP)).id)

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "failed"
    assert ended.failed_at is not None
    assert ended.errors is not None
    line_errors = [(error.line, error.code) for error in ended.errors.data]
    assert line_errors == [(2, "invalid_json_line"), (3, "duplicate_custom_id"), (4, "model_mismatch")]
    assert not system.jobs_at_providers()
    assert not system.provider.log()


async def test_a_file_of_blank_lines_fails_the_batch_as_empty(system: System) -> None:
    batch = await system.create((await system.upload(b"\n \r\n\n", target_model_names=GROUP)).id)

    ended = await system.run_until_ended(batch.id)

    assert (ended.status, ended.request_counts.total) == ("failed", 0)
    assert ended.errors is not None
    assert [(error.line, error.code) for error in ended.errors.data] == [(None, "empty_file")]
    assert not system.provider.log()


async def test_another_endpoint_than_the_lines_fails_the_batch(system: System) -> None:
    file = await system.upload(chat_lines(GROUP, 2))
    ended = await system.run_until_ended((await system.create(file.id, endpoint="/v1/embeddings")).id)

    assert ended.status == "failed"
    assert ended.errors is not None
    assert [(error.line, error.code) for error in ended.errors.data] == [(1, "url_mismatch"), (2, "url_mismatch")]


async def test_weights_spread_batches_over_deployments(system: System) -> None:
    file = await system.upload(chat_lines(GROUP, 1))
    await system.deliver_all()
    for _ in range(12):
        await system.create(file.id)
    await system.deliver_all()

    accounts = Counter(batch.account.name for batch in system.jobs_at_providers())
    assert sum(accounts.values()) == 12
    assert accounts.keys() == {"azure-general", "azure-special"}


async def test_a_deployment_that_is_about_to_be_ready_is_waited_for_no_longer_than_half_a_minute(
    system: System,
) -> None:
    file = await system.upload(chat_lines(GROUP, 1))
    inputs = [message for message in system.queue.messages if message.kind == "input"]
    system.queue.messages.clear()
    await system.deliver(inputs[0])
    batch = await system.create(file.id)
    await system.deliver_all()
    assert not system.jobs_at_providers()
    [row] = system.select("SELECT extract(epoch FROM due_at - created_at)::float8 AS due FROM shards")
    assert row["due"] == pytest.approx(30, abs=1)

    system.age(30)
    await system.step(batch.id)
    assert len(system.jobs_at_providers()) == 1


async def test_a_deployment_whose_first_attempt_failed_is_not_waited_for(system: System) -> None:
    system.provider.fail(Fault(kind="error", account="azure-general", route="files.create", times=None))
    file = await system.upload(chat_lines(GROUP, 1))
    inputs = [message for message in system.queue.messages if message.kind == "input"]
    system.queue.messages.clear()
    await system.create(file.id)
    await system.deliver_all()
    assert not system.jobs_at_providers()

    for message in inputs:
        await system.deliver(message)
    await system.deliver_all()

    assert [job.account.name for job in system.jobs_at_providers()] == ["azure-special"]


async def test_a_refusal_moves_on_to_the_next_deployment(system: System) -> None:
    system.provider.fail(Fault(kind="refuse", account="azure-general", route="batches.create", times=None))
    file = await system.upload(chat_lines(GROUP, 1))
    batches = [await system.create(file.id) for _ in range(4)]

    for batch in batches:
        assert (await system.run_until_ended(batch.id)).status == "completed"
    assert {batch.account.name for batch in system.jobs_at_providers()} == {"azure-special"}


async def test_a_batch_waits_while_every_deployment_is_busy(system: System) -> None:
    system.provider.fail(Fault(kind="rate_limit", route="batches.create", times=6, retry_after="7"))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()
    assert (await system.retrieve(batch.id)).status == "validating"

    assert (await system.run_until_ended(batch.id)).status == "completed"
    assert len(system.jobs_at_providers()) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_request_that_every_deployment_finds_wrong_fails_the_batch_soon_with_the_cause(
    system: System, status: int
) -> None:
    words = "This deployment, gpt-4o-mini-general-deployment, does not serve /v1/chat/completions."
    system.provider.fail(Fault(kind="refuse", status=status, route="batches.create", times=None, message=words))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)

    ended = await system.run_until_ended(batch.id, rounds=5)

    assert ended.status == "failed"
    assert ended.errors is not None
    errors = {error.message: error.code for error in ended.errors.data}
    shown = "The provider answered HTTP {}: This deployment, {}, does not serve /v1/chat/completions."
    assert f"Every deployment of the model refused the batch. {shown.format(status, '***')}" in errors
    assert set(errors.values()) == {"deployments_refused"}
    assert len(system.provider.log(route="batches.create")) <= 4


async def test_an_account_that_is_refused_is_asked_five_times_and_its_words_are_the_admins(system: System) -> None:
    words = "Incorrect API key provided: sk-proj-****abcd."
    system.provider.fail(Fault(kind="refuse", status=401, route="batches.create", times=None, message=words))
    batch = await system.create((await system.upload(chat_lines("gpt-4.1-mini-batch", 1))).id)

    ended = await system.run_until_ended(batch.id, rounds=200)

    assert ended.status == "failed"
    assert ended.errors is not None
    [error] = ended.errors.data
    assert str(error.message).endswith(
        "HTTP 401: the gateway's own account was refused. Tell whoever runs this gateway."
    )
    assert len(system.select("SELECT 1 FROM jobs WHERE state = 'refused'")) == 5


async def test_a_batch_that_nobody_takes_expires(system: System) -> None:
    system.provider.fail(Fault(kind="rate_limit", route="batches.create", times=None))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()
    system.age(86_500)

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "expired"
    assert ended.expired_at is not None


async def test_a_group_named_at_create_is_the_one_that_runs_it(system: System) -> None:
    names = f"{GROUP},gpt-4.1-mini-batch"
    file = await system.upload(chat_lines(GROUP, 1), target_model_names=names)
    batch = await system.create(file.id, model="gpt-4.1-mini-batch")

    assert batch.model == "gpt-4.1-mini-batch"
    assert (await system.run_until_ended(batch.id)).status == "completed"
    assert {job.account.name for job in system.jobs_at_providers()} == {"openai"}


@pytest.mark.parametrize("status", [500, 503])
async def test_a_provider_that_fails_three_times_then_works(system: System, status: int) -> None:
    for route in ("files.create", "batches.create", "batches.retrieve", "files.content"):
        system.provider.fail(Fault(kind="error", status=status, route=route, times=3))
    batch = await system.create((await system.upload(chat_lines(GROUP, 2))).id)

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "completed"
    assert len(system.jobs_at_providers()) == 1
    assert len(system.select("SELECT * FROM usage")) == 1


async def lose_the_job(system: System, group: str) -> Batch:
    """A batch whose only job its provider has forgotten, and runs no other one until it is let go."""
    for account in ACCOUNTS:
        system.provider.state.stall(account, "in_progress")
    batch = await system.create((await system.upload(chat_lines(group, 1))).id)
    await system.deliver_all()
    [job] = system.jobs_at_providers()
    system.provider.state.batches.forget(job.id)
    for account in ACCOUNTS:
        system.provider.state.stall(account, None)
    return await system.run_until_ended(batch.id)


async def test_a_job_that_its_provider_loses_runs_once_more_elsewhere(system: System) -> None:
    assert (await lose_the_job(system, GROUP)).status == "completed"
    deployments = system.select("SELECT deployment_id FROM jobs WHERE state = 'settled'")
    assert len({row["deployment_id"] for row in deployments}) == 2


async def test_a_job_that_the_only_provider_loses_fails_the_batch(system: System) -> None:
    ended = await lose_the_job(system, "gpt-4.1-mini-batch")

    assert ended.status == "failed"
    assert ended.errors is not None
    assert ended.errors.data[0].code == "job_lost"


async def test_a_cancel_that_is_not_taken_is_sent_again_but_not_all_the_time(system: System) -> None:
    for account in ("azure-general", "azure-special"):
        system.provider.state.stall(account, "in_progress")
    system.provider.fail(Fault(kind="rate_limit", route="batches.cancel", times=2))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    await system.deliver_all()

    await system.cancel(batch.id)
    for sent in (1, 2, 3):
        await system.deliver_all()
        assert len(system.provider.log(route="batches.cancel")) == sent
        system.age(10)
        await system.step(batch.id)
        assert len(system.provider.log(route="batches.cancel")) == sent
        system.age(6)
        await system.step(batch.id)
    for account in ("azure-general", "azure-special"):
        system.provider.state.stall(account, None)
    assert (await system.run_until_ended(batch.id)).status == "cancelled"


@pytest.mark.parametrize("key", ["target_model_names", "target_model_names[]"])
async def test_a_list_is_filtered_by_model_group(system: System, key: str) -> None:
    mine = await system.create((await system.upload(chat_lines(GROUP, 1))).id)
    other = await system.create((await system.upload(chat_lines("gpt-4.1-mini-batch", 1))).id)

    async def listed(*names: str) -> list[str]:
        page = await system.call("GET", "/batches", params={key: list(names)})
        return [batch["id"] for batch in page["data"]]

    assert await listed(GROUP) == [mine.id]
    assert await listed(f"{GROUP},gpt-4.1-mini-batch") == await listed() == [other.id, mine.id]
    assert await listed("no-such-model") == []


async def test_one_batch_that_cannot_be_written_does_not_hold_up_the_others(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    for account in ("azure-general", "azure-special"):
        system.provider.state.stall(account, "in_progress")
    file = await system.upload(chat_lines(GROUP, 1))
    broken, sound = [await system.create(file.id) for _ in range(2)]
    await system.deliver_all()
    for account in ("azure-general", "azure-special"):
        system.provider.state.stall(account, None)
    polled, ended = Jobs.polled, Jobs.ended
    [job] = system.select(f"SELECT id FROM jobs WHERE batch_id = '{broken.id}'")

    async def failing_poll(self: Jobs, polls: Sequence[JobPoll]) -> None:
        if job["id"] in {poll.job_id for poll in polls}:
            raise RuntimeError("a row that Postgres does not take")
        await polled(self, polls)

    async def failing_end(self: Jobs, ends: Mapping[str, JobEnd]) -> set[str]:
        if job["id"] in ends:
            raise RuntimeError("a row that Postgres does not take")
        return await ended(self, ends)

    monkeypatch.setattr(Jobs, "polled", failing_poll)
    monkeypatch.setattr(Jobs, "ended", failing_end)
    assert (await system.run_until_ended(sound.id)).status == "completed"
    monkeypatch.undo()
    assert (await system.run_until_ended(broken.id)).status == "completed"


async def test_a_shard_whose_job_old_code_has_closed_is_tried_again(system: System) -> None:
    batch = await system.create((await system.upload(chat_lines(GROUP, 1), target_model_names=GROUP)).id)
    system.provider.fail(Fault(kind="cut", route="batches.create"))
    await system.deliver_all()
    async with system.gateway.store.session() as tables:
        await tables.connection.execute("UPDATE jobs SET state = 'refused'")  # old code knows of no shard
    assert system.select("SELECT state FROM shards") == [{"state": "running"}]

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "completed"
    assert len(system.select("SELECT 1 FROM jobs")) == 2
