"""Batches that no deployment takes whole: each provider gets exactly the lines of its shards, within its limits."""

import json
from pathlib import Path
from typing import Any

from tests.support.divided_batches import (
    GROUP,
    Start,
    assert_each_line_sent_once,
    deployment_of,
    enforce,
    request,
    sent,
    write_config,
)
from tests.support.system import System

pytest_plugins = ("tests.support.divided_batches_fixtures",)


async def run_whole(system: System, batch_id: str) -> None:
    """Run the system until the batch has completed, and assert that its output answers each request once."""
    ended = await system.run_until_ended(batch_id, 120)
    assert (ended.status, ended.error_file_id) == ("completed", None)
    [batch] = system.select(f"SELECT total, completed, failed FROM batches WHERE id = '{batch_id}'")
    assert (batch["completed"], batch["failed"]) == (batch["total"], 0)
    answers = [json.loads(line)["custom_id"] for line in system.content(str(ended.output_file_id)).splitlines()]
    assert sorted(answers) == sorted(f"request-{number}" for number in range(batch["total"]))


def parsed(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]


async def test_a_batch_is_divided_by_requests(start: Start) -> None:
    system = start({one: {"max_batch_requests": 100} for one in ("general", "special", "mini", "five")})
    content = b"".join(map(request, range(450)))
    batch = await system.create((await system.upload(content)).id)

    await run_whole(system, batch.id)

    jobs = assert_each_line_sent_once(system, batch.id, parsed(content))
    assert [len(sent(job)) for job in jobs] == [90] * 5


async def test_a_batch_is_divided_by_bytes_of_the_longest_model(start: Start) -> None:
    content = b"".join(request(number, "x" * 1000) for number in range(200))
    limit = len(content) // 4
    system = start({one: {"max_batch_bytes": limit} for one in ("general", "mini", "five")})
    batch = await system.create((await system.upload(content)).id)

    await run_whole(system, batch.id)

    jobs = assert_each_line_sent_once(system, batch.id, parsed(content))
    assert len(jobs) == 5
    assert max(job.file.bytes for job in jobs) <= limit


async def test_a_batch_is_divided_by_tokens_and_waits_for_room(start: Start) -> None:
    content = b"".join(request(number, "some words " * 100) for number in range(300))
    system = start({one: {"max_enqueued_tokens": 10_000} for one in ("general", "special", "mini")})
    batch = await system.create((await system.upload(content)).id)

    await run_whole(system, batch.id)

    jobs = assert_each_line_sent_once(system, batch.id, parsed(content))
    assert len(jobs) > 6
    uses = [system.provider.state.quotas.use(key) for key in {job.quota_key for job in jobs}]
    assert not any(use.exceeded or use.refused for use in uses)


async def test_blank_lines_a_byte_order_mark_and_windows_line_ends_reach_no_provider(start: Start) -> None:
    system = start({one: {"max_batch_requests": 40} for one in ("general", "special", "mini", "five")})
    lines = [request(number).replace(b"\n", b"\r\n" if number % 2 else b"\n\r\n \n") for number in range(111)]
    content = b"\xef\xbb\xbf" + b"".join(lines).rstrip()
    batch = await system.create((await system.upload(content)).id)

    await run_whole(system, batch.id)

    jobs = assert_each_line_sent_once(system, batch.id, parsed(content))
    assert [len(sent(job)) for job in jobs] == [37] * 3
    assert all(job.file.lines == 37 for job in jobs)


async def test_a_range_begins_and_ends_inside_blocks(start: Start) -> None:
    system = start({one: {"max_batch_requests": 900} for one in ("general", "mini")})
    content = b"".join(request(number, "x" * (number % 700)) for number in range(2500))
    batch = await system.create((await system.upload(content)).id)

    await run_whole(system, batch.id)

    jobs = assert_each_line_sent_once(system, batch.id, parsed(content))
    assert [len(sent(job)) for job in jobs] == [834, 833, 833]


async def test_a_batch_of_target_model_names_is_divided_among_all_of_them(start: Start) -> None:
    system = start({one: {"max_batch_requests": 50} for one in ("general", "special", "mini")})
    content = b"".join(request(number, model="another-name") for number in range(120))
    file = await system.upload(content, target_model_names=GROUP)

    batch = await system.create(file.id)
    await run_whole(system, batch.id)

    assert len(assert_each_line_sent_once(system, batch.id, parsed(content))) == 3


async def test_a_file_is_uploaded_only_to_deployments_that_take_it_whole(start: Start) -> None:
    system = start(
        {
            "general": {"max_batch_requests": 1000},
            "special": {"max_batch_requests": 100},
            "mini": {"max_batch_bytes": 100},
        }
    )
    file = await system.upload(b"".join(map(request, range(200))))
    assert [one.deployment for one in file.inputs or ()] == ["general"]

    batch = await system.run_until_ended((await system.create(file.id)).id)

    assert batch.status == "completed"
    assert [deployment_of(job) for job in system.jobs_at_providers()] == ["general"]
    assert [entry["account"] for entry in system.provider.log(route="files.create")] == ["azure-general"]


async def test_a_file_that_no_deployment_takes_whole_is_uploaded_in_shards_alone(start: Start) -> None:
    system = start({one: {"max_batch_requests": 100} for one in ("general", "special", "mini")})
    file = await system.upload(b"".join(map(request, range(250))))
    assert file.inputs == []

    batch = await system.create(file.id)
    await run_whole(system, batch.id)

    uploads = [entry["lines"] for entry in system.provider.log(route="files.create")]
    assert sorted(uploads, reverse=True) == [84, 83, 83]
    assert (await system.call_files("GET", f"/files/{file.id}"))["inputs"] == []


async def test_one_request_that_is_above_every_limit_is_left_to_a_provider(start: Start) -> None:
    system = start({one: {"max_enqueued_tokens": 1000} for one in ("general", "mini")})
    enforce(system.provider, {one: {"max_enqueued_tokens": 100_000} for one in ("general", "mini")})

    batch = await system.create((await system.upload(request(1, "some words " * 1000))).id)

    assert (await system.run_until_ended(batch.id)).status == "completed"
    assert len(system.jobs_at_providers()) == 1


async def test_a_planned_batch_whose_deployments_take_less_by_now_is_left_to_a_provider(
    start: Start, tmp_path: Path
) -> None:
    system = start({"general": {"max_batch_requests": 100}, "mini": {"max_batch_requests": 100}})
    enforce(system.provider, {one: {"max_batch_requests": 100} for one in ("general", "mini")})
    file = await system.upload(b"".join(map(request, range(100))))
    batch = await system.create(file.id)
    system.queue.messages = [message for message in system.queue.messages if message.kind == "batch"]
    await system.deliver_all()

    write_config(tmp_path / "config.yaml", {"general": {"max_batch_requests": 10}, "mini": {"max_batch_requests": 10}})
    await system.restart()

    assert (await system.run_until_ended(batch.id)).status == "completed"
    assert [len(sent(job)) for job in system.jobs_at_providers()] == [100]
