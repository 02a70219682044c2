"""Requests of own execution that fail by themselves: each ends with its error, and holds up no other."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from batches.execution import chunk_execution, chunk_run
from manifold.config import Deployment
from manifold.errors import ANSWER_TOO_LARGE, InvalidRequest, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers.completion_provider import ProviderRequest
from manifold.queue import Message
from manifold.schemas import Batch
from tests.support.own_execution import GROUP, assert_complete, created, results, run_batch
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.own_execution",)

Answer = Callable[[str, Deployment], ProviderError | InvalidRequest | Awaitable[object] | None]
"""By the last message and the deployment: the error, what is waited for before the answer, or nothing."""

SERVER_ERROR = ProviderUnclear("HTTP 500", status=500)
NO_KEY = ProviderRefused("HTTP 401", status=401, lasting=True)
UNPAID = ProviderRefused("HTTP 402", status=402, lasting=True)
FORBIDDEN = ProviderRefused("HTTP 403", status=403, lasting=True, detail="You may not use this tool.")
NOT_FOUND = ProviderRefused("HTTP 404", status=404, lasting=True, detail="Item with id 'rs_1' not found.")
GONE = ProviderRefused("HTTP 410", status=410, lasting=True)
TOO_LARGE = ProviderUnclear("an answer of more than 8388608 bytes", code=ANSWER_TOO_LARGE)
TOO_MANY = ProviderRefused("HTTP 429", status=429, detail="Request too large on tokens per minute.")


def answering(system: System, answer: Answer) -> list[str]:
    """Have the providers answer so; returns the prompts that they were asked, as they come."""
    asked: list[str] = []
    complete = system.gateway.deployments.complete

    async def fail_or_complete(deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
        content = request.body["messages"][-1]["content"]
        asked.append(content)
        outcome = answer(content, deployment)
        if isinstance(outcome, ProviderError | InvalidRequest):
            raise outcome
        if outcome is not None:
            await outcome
        return await complete(deployment, request)

    system.gateway.deployments.complete = fail_or_complete  # type: ignore[method-assign]
    return asked


def failing(system: System, error: ProviderError, numbers: Iterable[int]) -> list[str]:
    """Have the providers fail at these requests."""
    prompts = {f"hello {number}" for number in numbers}
    return answering(system, lambda content, _: error if content in prompts else None)


async def drive(system: System, batch_id: str, *, rounds: int, seconds: float) -> Batch:
    """Deliver and let time pass, so often or until the batch has ended."""
    for _ in range(rounds):
        await system.deliver_all()
        batch = await system.retrieve(batch_id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            break
        system.age(seconds)
        await system.run_schedule()
    return batch


def paused_for(system: System) -> float:
    """Seconds for which all workers of the server begin no call."""
    rows = system.select("SELECT extract(epoch FROM paused_until - now())::float8 AS paused FROM traffic")
    return max((row["paused"] or 0.0 for row in rows), default=0.0)


def silent_for(system: System) -> list[float | None]:
    rows = system.select("SELECT extract(epoch FROM now() - silent_since)::float8 AS silent FROM chunks")
    return [row["silent"] for row in rows]


@pytest.mark.parametrize("group", ["one-by-one", GROUP])
@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SERVER_ERROR, 502, "provider_error"),
        (NO_KEY, 502, "provider_account"),
        (UNPAID, 502, "provider_account"),
        (FORBIDDEN, 502, "provider_account"),
        (NOT_FOUND, 404, None),
        (GONE, 410, None),
    ],
)
async def test_a_request_fails_after_its_retries_once_the_provider_answers_others(
    own: System, group: str, number: int, error: ProviderError, status: int, code: str | None
) -> None:
    asked = failing(own, error, [number])
    batch = await run_batch(own, chat_lines(group, 5))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 4, 1)
    line = results(own, batch.error_file_id)[f"request-{number}"]["response"]
    assert (line["status_code"], line["body"]["error"]["code"]) == (status, code)
    assert asked.count(f"hello {number}") == 2
    assert len(asked) <= 4 + 2 + 2, "two smallest requests at most"


async def test_the_only_request_fails_once_a_smaller_one_is_answered(own: System) -> None:
    asked = failing(own, SERVER_ERROR, [0])
    batch = await run_batch(own, chat_lines(GROUP, 1))
    assert (batch.status, batch.request_counts.failed) == ("completed", 1)
    assert asked == ["hello 0", "ping"] * 2


async def test_more_failing_requests_than_are_called_at_once_hold_up_nothing(own: System) -> None:
    asked = failing(own, SERVER_ERROR, range(100))
    batch = await run_batch(own, chat_lines(GROUP, 150))
    assert (batch.request_counts.completed, batch.request_counts.failed) == (50, 100)
    assert len(asked) < 50 + 2 * 100 + 40
    assert len(own.select("SELECT 1 FROM chunks WHERE attempts = 1")) == 1, "one run did it"


async def test_a_request_that_kills_the_server_fails_after_its_retries(own: System) -> None:
    """It answers again when the chunk is run again."""
    down = False

    def answer(content: str, _: Deployment) -> ProviderError | None:
        nonlocal down
        down = down or content == "hello 0"
        return SERVER_ERROR if down else None

    asked = answering(own, answer)
    batch_id = await created(own, chat_lines(GROUP, 40))
    for _ in range(20):
        await own.deliver_all()
        down = False
        own.age(60)
        await own.run_schedule()
    batch = await own.retrieve(batch_id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 39, 1)
    assert asked.count("hello 0") <= 6


async def test_an_answer_that_is_too_large_is_paid_once(own: System) -> None:
    asked = failing(own, TOO_LARGE, range(50))
    batch = await run_batch(own, chat_lines(GROUP, 60))
    assert (batch.request_counts.completed, batch.request_counts.failed) == (10, 50)
    assert len(asked) == 60
    line = results(own, batch.error_file_id)["request-7"]["response"]
    assert (line["status_code"], line["body"]["error"]["code"]) == (400, ANSWER_TOO_LARGE)


async def test_a_request_that_is_not_answered_in_time_fails_after_its_retries(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was called as the run's time was over, and where nothing else is left."""
    monkeypatch.setattr(chunk_execution, "CALL_SECONDS", 1.0)
    monkeypatch.setattr(chunk_execution, "WORK_SECONDS", 31.3)
    monkeypatch.setattr(chunk_run, "CLAIM_SECONDS", 0.3)
    asked = answering(own, lambda content, _: asyncio.sleep(5) if content == "hello 1" else None)
    batch_id = await created(own, chat_lines(GROUP, 5))
    batch = await drive(own, batch_id, rounds=20, seconds=30)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 4, 1)
    line = results(own, batch.error_file_id)["request-1"]["response"]
    assert line["status_code"] == 504
    assert asked.count("hello 1") == 2


async def test_a_request_of_which_the_provider_wants_no_call_holds_up_nothing(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 429 pauses others twice; then it is called more and more rarely, and fails after half an hour."""
    monkeypatch.setattr(chunk_run, "CLAIM_SECONDS", 0.1)
    monkeypatch.setattr("batches.execution.line_calls.BUSY_SECONDS", 0.2)
    asked = failing(own, TOO_MANY, [0])
    batch_id = await created(own, chat_lines(GROUP, 30))
    other = await created(own, chat_lines(GROUP, 1).replace(b"hello", b"other"))
    await drive(own, batch_id, rounds=6, seconds=30)
    assert (await own.retrieve(other)).status == "completed"
    batch = await own.retrieve(batch_id)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (29, 0)
    assert asked.count("hello 0") < 12
    assert own.select("SELECT paused_until > now() AS paused FROM traffic") == [{"paused": False}]
    batch = await drive(own, batch_id, rounds=30, seconds=200)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 29, 1)
    line = results(own, batch.error_file_id)["request-0"]["response"]
    assert (line["status_code"], line["body"]["error"]["code"]) == (429, "rate_limit_exceeded")
    assert asked.count("hello 0") < 30


async def test_a_provider_that_wants_no_calls_at_all_fails_no_request(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches.execution.line_calls.BUSY_SECONDS", 0.1)
    limited = True
    asked = answering(own, lambda *_: TOO_MANY if limited else None)
    batch_id = await created(own, chat_lines(GROUP, 3))
    batch = await drive(own, batch_id, rounds=30, seconds=200)
    assert (batch.status, batch.request_counts.failed) == ("in_progress", 0)
    assert len(asked) < 60
    limited = False
    own.age(300)
    assert_complete(own, await own.run_until_ended(batch_id), 3)


async def test_a_server_that_takes_calls_and_never_answers_counts_as_down(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests move to another deployment."""
    monkeypatch.setattr(chunk_execution, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(chunk_execution, "WORK_SECONDS", 31.0)
    monkeypatch.setattr(chunk_run, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(chunk_run, "LAST_PROBE_SECONDS", 0.5)
    asked = answering(own, lambda _, deployment: asyncio.sleep(60) if deployment.id == "pair-first" else None)
    batch_id = await created(own, chat_lines("pair", 30))
    began = time.monotonic()
    batch = await drive(own, batch_id, rounds=20, seconds=100)
    assert_complete(own, batch, 30, "pair")
    assert time.monotonic() - began < 30
    ran = own.select("SELECT deployment_id, outcome FROM jobs ORDER BY created_at")
    assert [tuple(one.values()) for one in ran] == [("pair-first", "failed"), ("pair-second", "completed")]
    assert len(asked) < 30 + 20


async def test_a_silent_provider_is_asked_less_and_less(own: System) -> None:
    """After a first run, a smallest request and one of the batch tell; the pause is as long as it has been silent."""
    asked = answering(own, lambda *_: SERVER_ERROR)
    batch_id = await created(own, chat_lines(GROUP, 100))
    await own.deliver_all()
    await own.deliver_all()
    first = len(asked)
    assert first <= 10
    pauses = list[int]()
    for _ in range(8):
        [chunk] = own.select("SELECT extract(epoch FROM due_at - now())::float8 AS due FROM chunks")
        pauses.append(round(chunk["due"]))
        own.age(chunk["due"] + 16)
        await own.run_schedule()
        await own.deliver_all()
    assert [content == "ping" for content in asked[first:]] == [True, False] * 8
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300
    assert (await own.retrieve(batch_id)).request_counts.failed == 0


async def test_what_others_hold_is_no_silence_of_the_provider(own: System) -> None:
    """A chunk that has no place for long is not one whose provider refuses the account."""
    lease = "jsonb_build_object('call_x', jsonb_build_array(64, extract(epoch FROM now()) + 100000))"
    own.select(f"INSERT INTO traffic (deployment_id, leases) VALUES ('own', {lease}) RETURNING deployment_id")
    batch_id = await created(own, chat_lines(GROUP, 3))
    await drive(own, batch_id, rounds=7, seconds=30)
    assert silent_for(own) == [None]
    own.select("UPDATE traffic SET leases = '{}' RETURNING deployment_id")
    refused = iter([NO_KEY] * 3)
    answering(own, lambda *_: next(refused, None))
    assert_complete(own, await own.run_until_ended(batch_id), 3)


async def test_tokens_of_short_runs_are_charged(own: System) -> None:
    """A batch that ends before its second claim leaves what it took below the limit to the next one."""
    complete = own.gateway.deployments.complete

    async def costly(deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
        usage = {"prompt_tokens": 10, "completion_tokens": 490, "total_tokens": 500}
        return {**await complete(deployment, request), "usage": usage}

    own.gateway.deployments.complete = costly  # type: ignore[method-assign]
    batch = await run_batch(own, chat_lines("few-tokens", 1))
    assert batch.status == "completed"
    [pace] = own.select("SELECT free_tokens FROM traffic WHERE deployment_id = 'few-tokens'")
    assert pace["free_tokens"] < -400


async def test_what_is_stored_is_kept_where_the_deployment_is_gone(own: System) -> None:
    """The chunks of a cancelled batch end though config.yaml has their deployment no longer; the batch, once it has."""
    batch_id = await created(own, chat_lines("one-by-one", 30))
    answered = 0

    def answer(*_: object) -> ProviderError | None:
        nonlocal answered
        answered += 1
        return SERVER_ERROR if answered > 10 else None

    answering(own, answer)
    await own.deliver_all()
    await own.deliver_all()
    own.gateway.deployments.get = lambda *_: None  # type: ignore[method-assign]
    await own.cancel(batch_id)
    await drive(own, batch_id, rounds=2, seconds=60)
    assert own.select("SELECT state, completed FROM chunks") == [{"state": "ended", "completed": 10}]
    del own.gateway.deployments.get
    batch = await own.run_until_ended(batch_id)
    assert batch.status == "cancelled"
    assert len(results(own, batch.output_file_id)) == 10


async def test_many_requests_of_which_the_provider_wants_no_call_hold_up_nothing(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one run calls. All of them have failed soon after half an hour."""
    monkeypatch.setattr("batches.execution.line_calls.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("batches.execution.chunk_run.BUSY_SECONDS", 0.01)
    monkeypatch.setattr(chunk_run, "CLAIM_SECONDS", 0.1)
    failing(own, ProviderRefused("HTTP 429", status=429, retry_after=60), range(40))
    batch_id = await created(own, chat_lines(GROUP, 45))
    other = await created(own, chat_lines(GROUP, 1).replace(b"hello", b"other"))
    await drive(own, batch_id, rounds=8, seconds=70)
    assert (await own.retrieve(other)).status == "completed"
    batch = await drive(own, batch_id, rounds=30, seconds=320)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 40)


@pytest.mark.parametrize("status", [403, 413, 500])
async def test_a_failure_asks_for_no_pause(own: System, status: int) -> None:
    """`Retry-After` counts where the provider wants fewer calls, and not where it refuses this one."""
    failing(own, ProviderRefused("HTTP", status=status, retry_after=200), [0])
    batch = await run_batch(own, chat_lines(GROUP, 20))
    assert (batch.request_counts.completed, batch.request_counts.failed) == (19, 1)
    assert paused_for(own) == 0


@pytest.mark.parametrize("count", [1, 30])
async def test_all_workers_hear_of_a_pause(own: System, count: int) -> None:
    failing(own, ProviderRefused("HTTP 429", status=429, retry_after=60), range(30))
    await created(own, chat_lines(GROUP, count))
    await own.deliver_all()
    assert paused_for(own) > 50


async def test_a_provider_that_is_overloaded_now_and_then_fails_no_request(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches.execution.line_calls.BUSY_SECONDS", 0.01)
    monkeypatch.setattr(chunk_run, "CLAIM_SECONDS", 0.1)
    calls = itertools.count()
    answering(own, lambda *_: ProviderUnclear("HTTP 503", status=503) if next(calls) % 2 else None)
    assert_complete(own, await run_batch(own, chat_lines(GROUP, 100)), 100)


@pytest.mark.parametrize("error", [SERVER_ERROR, NOT_FOUND, InvalidRequest("There is no such parameter.")])
async def test_a_provider_may_refuse_the_probe_alone(own: System, error: ProviderError | InvalidRequest) -> None:
    """After an outage its requests go on."""
    down = True
    answering(own, lambda content, _: error if content == "ping" else SERVER_ERROR if down else None)
    batch_id = await created(own, chat_lines(GROUP, 20))
    await drive(own, batch_id, rounds=3, seconds=60)
    down = False
    own.age(300)
    assert_complete(own, await own.run_until_ended(batch_id), 20)


async def test_a_probe_that_may_not_begin_tells_nothing_of_the_provider(
    own: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_run, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(chunk_run, "LAST_PROBE_SECONDS", 0.5)
    asked = failing(own, SERVER_ERROR, [0])
    await created(own, chat_lines("few-calls", 1))
    own.select("INSERT INTO traffic (deployment_id, paced_at) VALUES ('few-calls', now()) RETURNING deployment_id")
    own.select("UPDATE traffic SET free_requests = 1 RETURNING deployment_id")
    await own.deliver_all()
    assert asked == ["hello 0"]
    assert own.select("SELECT failures FROM chunks") == [{"failures": {"0": 0}}]
    [chunk] = own.select("SELECT extract(epoch FROM due_at - now())::int AS due FROM chunks")
    assert 5 < chunk["due"] <= chunk_run.NO_PLACE_SECONDS


async def test_tokens_that_an_answer_does_not_tell_are_estimated(own: System) -> None:
    complete = own.gateway.deployments.complete

    async def untold(deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
        return {**await complete(deployment, request), "usage": None}

    own.gateway.deployments.complete = untold  # type: ignore[method-assign]
    await run_batch(own, chat_lines("few-tokens", 1).replace(b"hello", b"hello " * 400))
    [pace] = own.select("SELECT free_tokens FROM traffic WHERE deployment_id = 'few-tokens'")
    assert pace["free_tokens"] < -500


async def test_the_last_calls_of_a_run_hold_no_place(own: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call hangs: the chunk after it begins, and the run claims no calls that it does not make."""
    monkeypatch.setattr(chunk_run, "CLAIM_SECONDS", 0.1)
    hanging = asyncio.Event()
    answering(own, lambda content, _: hanging.wait() if content == "hello 3" else None)
    first = await created(own, chat_lines(GROUP, 20))
    other = await created(own, chat_lines(GROUP, 5).replace(b"hello", b"other"))
    for batch_id in (first, other):
        await own.step(batch_id)
        await own.step(batch_id)
    [running] = own.select("SELECT id FROM chunks WHERE due_at IS NOT NULL")
    run = asyncio.create_task(own.deliver(Message("chunk", running["id"])))
    for _ in range(50):
        await asyncio.sleep(0.1)
        if len(own.select("SELECT id FROM chunks WHERE due_at IS NOT NULL")) == 2:
            break
    [traffic] = own.select("SELECT leases FROM traffic")
    assert [lease[0] for lease in traffic["leases"].values()] == [1]
    assert (await own.run_until_ended(other)).request_counts.completed == 5
    hanging.set()
    await run
    assert_complete(own, await own.run_until_ended(first), 20)


async def test_a_cancel_is_heard_after_the_run_has_stopped(own: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is under way as the provider wants a long pause, and then the batch is cancelled."""
    monkeypatch.setattr(chunk_run, "CLAIM_SECONDS", 0.1)
    pause = ProviderRefused("HTTP 429", status=429, retry_after=250)
    answering(own, lambda content, _: pause if content == "hello 1" else asyncio.sleep(3))
    batch_id = await created(own, chat_lines(GROUP, 2))
    running = asyncio.create_task(own.deliver_all())
    for _ in range(50):
        await asyncio.sleep(0.1)
        if paused_for(own):
            break
    await own.cancel(batch_id)
    await running
    assert [row["state"] for row in own.select("SELECT state FROM chunks")] == ["ended"]
    assert (await own.run_until_ended(batch_id)).status == "cancelled"


async def test_a_request_that_hangs_does_not_move_its_job(own: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider answers others, it is no silence of the provider."""
    monkeypatch.setattr(chunk_execution, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(chunk_execution, "WORK_SECONDS", 31.0)
    monkeypatch.setattr(chunk_execution, "PATIENCE_SECONDS", 0.1)
    asked = answering(own, lambda content, _: asyncio.sleep(60) if content == "hello 0" else None)
    batch_id = await created(own, chat_lines("pair", 1))
    batch = await drive(own, batch_id, rounds=10, seconds=100)
    assert (batch.status, batch.request_counts.failed) == ("completed", 1)
    assert len(own.select("SELECT id FROM jobs")) == 1
    assert asked.count("hello 0") == 2
