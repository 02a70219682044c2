"""The contract of each batch dialect, from OpenAI's lines to OpenAI's results, at the simulated provider."""

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from manifold.errors import InputLost, ProviderRefused
from manifold.providers import Prepared
from tests.support.batch_dialects import BATCH_DIALECTS, NOT_YET
from tests.support.batch_driver import RESPONSES, BatchDriver, dialects

pytest_plugins = ("tests.support.batch_driver",)

holding = pytest.mark.parametrize("batches", dialects(lambda one: one.holds_inputs), indirect=True)
ODD_IDS = ("a", "a b", 'quote"d', "ü😀", "x" * 300, "../../etc", "line\nfeed", "input_a1-0", "0", "1")


def test_each_dialect_is_held_to_the_contract() -> None:
    names = [one.name for one in BATCH_DIALECTS]
    assert len(set(names)) == len(names)
    assert not set(names) & set(NOT_YET)


async def test_each_request_is_answered_once_by_the_id_of_the_client(batches: BatchDriver) -> None:
    lines = [batches.line(custom_id, f"say {number}") for number, custom_id in enumerate(ODD_IDS)]
    lines += batches.lines(batches.dialect.minimum - len(lines)) if len(lines) < batches.dialect.minimum else []

    outcome = await batches.run(lines)

    assert outcome.status.state == "completed"
    assert set(outcome.answers) == {line["custom_id"] for line in lines}
    assert not outcome.failures
    for number, custom_id in enumerate(ODD_IDS):
        body = json.dumps(outcome.body(custom_id))
        if batches.dialect.route == RESPONSES:
            assert Response.model_validate_json(body, strict=True).output_text == f"echo: say {number}"
            continue
        answer = ChatCompletion.model_validate_json(body, strict=True)
        assert answer.choices[0].message.content == f"echo: say {number}"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 2
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_line_that_fails_at_the_provider_is_a_failed_line(batches: BatchDriver) -> None:
    lines = [batches.line("bad", "fail-this-line"), *batches.lines()]

    outcome = await batches.run(lines)

    assert outcome.status.state == "completed"
    assert set(outcome.failures) == {"bad"}
    assert len(outcome.answers) == len(lines) - 1
    error = outcome.error("bad")
    assert error["message"]
    if outcome.failures["bad"]["response"] is not None:
        assert outcome.failures["bad"]["response"]["status_code"] >= 400
        assert set(error) == {"message", "type", "param", "code"}
    if batches.dialect.counts:
        status = outcome.status
        assert (status.total, status.completed, status.failed) == (len(lines), len(lines) - 1, 1)


async def test_a_job_whose_every_line_fails_is_completed(batches: BatchDriver) -> None:
    lines = batches.lines()
    batches.fail_job(lines={"status": 400, "code": "invalid_request"})

    outcome = await batches.run(lines)

    assert outcome.status.state == "completed"
    assert set(outcome.failures) == {line["custom_id"] for line in lines}
    assert not outcome.answers
    assert not outcome.status.lacks_files(len(lines))


@holding
async def test_the_input_arrives_exactly_and_is_named(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines(50))

    log = batches.simulator.log(batches.dialect.account, batches.dialect.routes["stored"])
    (received,) = [entry for entry in log if "sha256" in entry]
    assert received["sha256"] == hashlib.sha256(sent.content).hexdigest()
    assert (sent.prepared.expires_at is not None) == batches.dialect.tells_expiry
    listed = [one async for one in batches.provider.inputs(batches.at)]
    assert [(one.ref, one.name) for one in listed] == [(sent.prepared.ref, "input_a1.jsonl")]


async def test_an_input_of_another_length_is_a_programming_error(batches: BatchDriver) -> None:
    sent = await batches.written(batches.lines())
    for wrong in (-1, 1):
        data = sent.data._replace(bytes=sent.data.bytes + wrong)
        with pytest.raises(ValueError, match="does not have its"):
            await _sent_again(batches, replace(sent, data=data))


async def _sent_again(batches: BatchDriver, sent: Any) -> None:
    if batches.provider.sends_lines:
        await batches.submit(sent)
    else:
        await batches.provider.prepare(batches.at, sent.data)


async def test_a_job_passes_through_its_states(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    batches.simulator.state.stall(batches.dialect.account, "validating")
    batches.pace()
    ref = await batches.submit(sent)
    seen = []
    for state in ("validating", "in_progress", "finalizing"):
        batches.simulator.state.stall(batches.dialect.account, state)
        await asyncio.sleep(0.02)
        seen.append((await batches.poll(ref))[ref].state)

    assert set(seen) <= {"validating", "in_progress", "finalizing"}
    assert seen == sorted(seen, key=["validating", "in_progress", "finalizing"].index)
    assert not (await batches.poll(ref))[ref].output_ref
    batches.simulator.state.stall(batches.dialect.account, None)
    assert len((await batches.outcome(sent, ref)).answers) == len(sent.custom_ids)


async def test_equal_inputs_and_jobs_of_one_input_stay_apart(batches: BatchDriver) -> None:
    lines = batches.lines()
    first, second = [await batches.prepare(lines, input_id) for input_id in ("input_a1", "input_b2")]
    jobs = [(first, "job_a1"), (second, "job_b2"), (first, "job_c3")]

    refs = [await batches.submit(sent, job_id) for sent, job_id in jobs]

    assert len(set(refs)) == 3
    for (sent, _), ref in zip(jobs, refs, strict=True):
        outcome = await batches.outcome(sent, ref)
        assert set(outcome.answers) == {line["custom_id"] for line in lines}


async def test_many_jobs_are_polled_at_once(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    refs = [await batches.submit(sent, f"job_{number}") for number in range(12)]

    statuses = await batches.poll(*refs)

    assert set(statuses) == set(refs)
    assert not any(status.lost for status in statuses.values())


async def test_a_job_that_the_provider_lost_has_failed(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    refs = [await batches.submit(sent, f"job_{number}") for number in range(7)]
    batches.simulator.state.batches.forget(batches.created()[0])

    one, many = await batches.poll(refs[0]), await batches.poll(*refs)

    for statuses in (one, many):
        assert (statuses[refs[0]].state, statuses[refs[0]].lost) == ("failed", True)
    assert [ref for ref, status in many.items() if status.lost] == refs[:1]


async def test_a_404_of_another_address_loses_no_job(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    ref = await batches.submit(sent)
    batches.at = replace(batches.at, base_url=batches.at.base_url.replace("/accounts/", "/accounts/of-nobody-"))

    with pytest.raises(ProviderRefused):
        await batches.poll(ref)


@pytest.mark.parametrize("batches", dialects(lambda one: one.fails), indirect=True)
async def test_a_failed_job_says_why(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    batches.fail_job(ending={"state": "failed", "message": "The reason of this failure."})

    status = await batches.ended(await batches.submit(sent))

    assert (status.state, status.lost) == ("failed", False)
    assert "reason of this failure" in status.errors[0].message


@pytest.mark.parametrize("batches", dialects(lambda one: "cancel" in one.routes), indirect=True)
async def test_a_cancel_keeps_partial_results_and_may_be_repeated(batches: BatchDriver) -> None:
    lines = batches.lines(1000)
    sent = await batches.prepare(lines)
    batches.pace(in_progress=0.6, cancelling=0.1)
    ref = await batches.submit(sent)
    await asyncio.sleep(0.2)

    await batches.provider.cancel(batches.at, ref)
    await batches.provider.cancel(batches.at, ref)
    outcome = await batches.outcome(sent, ref)
    await batches.provider.cancel(batches.at, ref)

    assert outcome.status.state == "cancelled"
    assert len(outcome.answers) < 1000
    if "cancelled" in batches.dialect.partial:
        assert outcome.answers
    if batches.dialect.counts:
        assert len(outcome.answers) == outcome.status.completed
    assert len(outcome.answers) + len(outcome.failures) >= outcome.status.answers(1000)
    assert not outcome.status.lacks_files(len(lines))


async def test_a_cancel_of_an_ended_job_is_no_error(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    ref = await batches.submit(sent)
    assert (await batches.ended(ref)).state == "completed"

    await batches.provider.cancel(batches.at, ref)

    assert len((await batches.outcome(sent, ref)).answers) == len(sent.custom_ids)


@pytest.mark.parametrize("batches", dialects(lambda one: "expired" in one.partial), indirect=True)
async def test_an_expired_job_keeps_what_was_answered(batches: BatchDriver) -> None:
    lines = batches.lines(20)
    answered = len(lines) // 2
    batches.fail_job(ending={"state": "expired", "answered": answered})
    sent = await batches.prepare(lines)

    outcome = await batches.outcome(sent, await batches.submit(sent))

    assert outcome.status.state == "expired"
    assert len(outcome.answers) == answered
    for custom_id in outcome.failures:
        assert outcome.error(custom_id)["code"]
    assert not outcome.status.lacks_files(len(lines))


async def test_a_discard_may_be_repeated(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    ref = await batches.submit(sent)
    status = await batches.ended(ref)
    for one in filter(None, (sent.prepared.ref, status.output_ref, status.error_ref)):
        await batches.provider.discard(batches.at, one)
        await batches.provider.discard(batches.at, one)

    assert [one async for one in batches.provider.inputs(batches.at)] == []


@holding
async def test_a_job_whose_input_was_lost_is_refused_with_that_reason(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())
    assert sent.prepared.ref is not None
    await batches.provider.discard(batches.at, sent.prepared.ref)

    with pytest.raises(InputLost) as refusal:
        await batches.submit(sent)
    assert refusal.value.lasting


@holding
async def test_inputs_are_listed_by_the_names_that_they_were_given(batches: BatchDriver) -> None:
    sent = [await batches.prepare(batches.lines(), one) for one in ("input_a1", "input_b2")]

    listed = {one.ref: one async for one in batches.provider.inputs(batches.at)}

    assert {ref: one.name for ref, one in listed.items()} == {one.prepared.ref: one.data.name for one in sent}
    for one in listed.values():
        assert one.created_at is None or abs(one.created_at - time.time()) < 60


@pytest.mark.parametrize("batches", dialects(lambda one: not one.holds_inputs), indirect=True)
async def test_lines_that_travel_with_the_job_are_no_input(batches: BatchDriver) -> None:
    sent = await batches.prepare(batches.lines())

    assert batches.provider.sends_lines
    assert sent.prepared == Prepared(None)
    assert [one async for one in batches.provider.inputs(batches.at)] == []
