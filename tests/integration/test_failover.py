"""Jobs that fail after their provider accepted them: who is asked next, how often, and how the batch ends."""

from collections import Counter
from itertools import pairwise

import pytest

from local.provider import Fault
from local.provider.defects import Defects, Ending
from manifold.schemas import Batch
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

PAIR = "gpt-4o-batch"
"""A group of two deployments."""
SINGLE = "gpt-4.1-mini-batch"
"""A group of one."""
OPEN = ("validating", "in_progress", "finalizing", "completed")


def fail_jobs(system: System, times: int | None = 1, account: str = "*", **ending: object) -> None:
    defects = Defects(ending=Ending.model_validate({"state": "failed"} | ending))
    system.provider.fail(Fault(kind="job", account=account, times=times, job=defects))


async def run(system: System, group: str = PAIR, rounds: int = 200, step: float = 30) -> Batch:
    """Create a batch and run it to its end. Its status never goes back."""
    batch = await system.create((await system.upload(chat_lines(group, 2), target_model_names=group)).id)
    seen = [batch.status]
    for _ in range(rounds):
        await system.deliver_all()
        now = await system.retrieve(batch.id)
        seen.append(now.status)
        if now.completed_at or now.failed_at or now.expired_at or now.cancelled_at:
            places = [OPEN.index(status) for status in seen if status in OPEN]
            assert places == sorted(places), seen
            return now
        system.age(step)
        await system.run_schedule()
    raise AssertionError(f"not ended: {now}, {jobs(system)}")


def jobs(system: System) -> list[tuple[str, str, str | None]]:
    rows = system.select("SELECT deployment_id, state, fault FROM jobs ORDER BY created_at")
    return [(row["deployment_id"], row["state"], row["fault"]) for row in rows]


def tried(system: System) -> Counter[str]:
    return Counter(deployment_id for deployment_id, _, _ in jobs(system))


def codes(batch: Batch) -> list[str | None]:
    return [error.code for error in batch.errors.data] if batch.errors else []


@pytest.mark.parametrize("code", ["token_limit_exceeded", "capacity", "internal_error", "server_error", "anything"])
async def test_a_job_that_its_provider_failed_is_tried_elsewhere(system: System, code: str) -> None:
    fail_jobs(system, code=code, polls=2)
    batch = await run(system)
    assert (batch.status, batch.errors) == ("completed", None)
    first, second = jobs(system)
    assert first[0] != second[0]
    assert (first[2], second[2]) == ("unknown" if code == "anything" else "provider", None)


@pytest.mark.parametrize(("code", "line"), [("invalid_json_line", 1), ("mismatched_model", None), ("anything", 2)])
async def test_a_fault_of_the_input_is_not_tried_again(system: System, code: str, line: int | None) -> None:
    fail_jobs(system, times=None, code=code, line=line)
    batch = await run(system)
    assert (batch.status, codes(batch)) == ("failed", [code])
    assert [fault for _, _, fault in jobs(system)] == ["input"]


async def test_a_failure_of_unknown_kind_is_tried_once_at_each_deployment(system: System) -> None:
    fail_jobs(system, times=None, code="anything")
    batch = await run(system)
    assert (batch.status, codes(batch)) == ("failed", ["anything"])
    assert sorted(tried(system).values()) == [1, 1]


async def test_a_providers_lasting_fault_is_tried_five_times_at_each_deployment(system: System) -> None:
    fail_jobs(system, times=None, code="internal_error")
    batch = await run(system)
    assert (batch.status, codes(batch)) == ("failed", ["internal_error"])
    assert sorted(tried(system).values()) == [5, 5]


async def test_a_single_deployment_gets_it_again_after_a_quota(system: System) -> None:
    fail_jobs(system, times=3, code="token_limit_exceeded")
    batch = await run(system, SINGLE)
    assert batch.status == "completed"
    assert len(jobs(system)) == 4


async def test_the_pause_grows_with_each_late_failure(system: System) -> None:
    fail_jobs(system, times=None, code="token_limit_exceeded")
    await system.create((await system.upload(chat_lines(SINGLE, 2))).id)
    for _ in range(80):
        await system.deliver_all()
        system.age(15)
        await system.run_schedule()
    starts = [row["at"] for row in system.select("SELECT extract(epoch FROM created_at) AS at FROM jobs ORDER BY 1")]
    pauses = [later - one for one, later in pairwise(starts)]
    assert len(pauses) >= 5
    assert [pause >= least for pause, least in zip(pauses, (60, 120, 240, 300, 300), strict=False)] == [True] * 5


async def test_a_quota_that_never_frees_up_is_tried_until_the_window_is_over(system: System) -> None:
    fail_jobs(system, times=None, code="token_limit_exceeded", message="Limit: 5 tokens.")
    batch = await run(system, SINGLE, step=3000)
    assert (batch.status, codes(batch)) == ("expired", ["batch_expired"])
    assert batch.errors is not None
    assert str(batch.errors.data[0].message).endswith("The last cause: Limit: 5 tokens.")


async def test_one_that_was_cancelled_at_the_providers_console_runs_elsewhere(system: System) -> None:
    fail_jobs(system, state="cancelled")
    batch = await run(system)
    assert batch.status == "completed"
    assert [fault for _, _, fault in jobs(system)] == ["unknown", None]


async def test_a_request_that_was_counted_as_failed_and_has_no_result_is_counted_by_its_next_answer(
    system: System,
) -> None:
    ending = Ending(state="cancelled", answered=1)
    counts = {"total": 2, "completed": 1, "failed": 1}
    system.provider.fail(Fault(kind="job", job=Defects(ending=ending, counts=counts)))

    batch = await run(system)

    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 0)


async def test_what_a_failed_job_counted_counts_no_more_once_its_lines_are_to_run_again(system: System) -> None:
    defects = Defects(ending=Ending(state="failed"), counts={"total": 2, "completed": 0, "failed": 2})
    system.provider.fail(Fault(kind="job", times=None, job=defects))

    batch = await run(system, SINGLE)

    assert batch.status == "failed"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (2, 0, 0)


async def test_a_job_that_is_gone_runs_elsewhere(system: System) -> None:
    fail_jobs(system, state="gone", polls=1)
    batch = await run(system)
    assert batch.status == "completed"
    assert len(set(tried(system))) == 2


async def test_one_that_expired_at_its_provider_is_not_run_again(system: System) -> None:
    fail_jobs(system, state="expired", answered=1)
    batch = await run(system)
    assert (batch.status, batch.request_counts.completed) == ("expired", 1)
    assert len(jobs(system)) == 1


async def test_a_job_that_is_never_validated_ends_with_its_batch(system: System) -> None:
    """The provider may still start it within the window, so it is not moved: it would be paid for twice."""
    system.provider.fail(Fault(kind="job", times=None, job=Defects(stall="validating")))
    batch = await run(system, rounds=60, step=3600)
    assert (batch.status, codes(batch)) == ("expired", ["batch_abandoned"])
    assert len(jobs(system)) == 1
