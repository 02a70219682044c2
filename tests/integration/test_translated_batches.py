"""Batches at a provider whose lines have a form of their own: what the workers do with them, whatever the provider."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from local.provider.defects import Defects, Ending
from manifold.errors import InvalidRequest
from manifold.providers import Endpoint, Input, Job, Prepared
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.openai.batches import OpenAIBatches
from manifold.schemas import Batch
from tests.support.provider import chat_line, chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
ACCOUNT = "openai"


class StrictTranslator:
    """OpenAI's lines with ids of ours, for a provider that has no `logit_bias`."""

    routes = frozenset({"/v1/chat/completions"})

    def __init__(self, model: str) -> None:
        self._model = model

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        if "logit_bias" in request.body and not request.drop_params:
            raise InvalidRequest("'logit_bias' cannot be sent.", param="logit_bias", code="unsupported_parameter")
        body = {name: value for name, value in request.body.items() if name != "logit_bias"} | {"model": self._model}
        return {"custom_id": request.id, "method": "POST", "url": request.route, "body": body}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        if line["error"] is not None:
            return LineResult(line["custom_id"], code=line["error"]["code"], message=line["error"]["message"])
        return LineResult(line["custom_id"], line["response"]["body"], line["response"]["status_code"])


@pytest.fixture
def translating(monkeypatch: pytest.MonkeyPatch) -> None:
    """All deployments of OpenAI's dialect have lines of their own."""
    monkeypatch.setattr(OpenAIBatches, "translator", lambda _, at: StrictTranslator(at.model))


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch, translating: None) -> None:
    """They take their lines along with the job."""
    prepare, submit = OpenAIBatches.prepare, OpenAIBatches.submit

    async def prepared(self: OpenAIBatches, endpoint: Endpoint, data: Input) -> Prepared:
        return Prepared(None)

    async def submitted(self: OpenAIBatches, endpoint: Endpoint, job: Job) -> str:
        assert job.data is not None
        uploaded = await prepare(self, endpoint, job.data)
        return await submit(self, endpoint, job._replace(input_ref=uploaded.ref))

    monkeypatch.setattr(OpenAIBatches, "sends_lines", True)
    monkeypatch.setattr(OpenAIBatches, "prepare", prepared)
    monkeypatch.setattr(OpenAIBatches, "submit", submitted)


def bad_line(custom_id: str) -> bytes:
    """A request that cannot be translated."""
    return chat_line(GROUP, custom_id, logit_bias={"50256": -100})


def lines_of(system: System, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a result file by their `custom_id`, each of which occurs once."""
    if file_id is None:
        return {}
    lines = [json.loads(line) for line in system.content(file_id).splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


async def run_batch(system: System, content: bytes) -> Batch:
    return await system.run_until_ended((await system.create((await system.upload(content)).id)).id, rounds=80)


def counts(batch: Batch) -> tuple[int, int, int]:
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


def stored(system: System, prefix: str = "inputs/") -> list[str]:
    """The keys of what was made of inputs' lines."""
    listed = system.gateway.storage._client.list_objects_v2(Bucket=system.gateway.environment.bucket, Prefix=prefix)
    return [str(one["Key"]) for one in listed.get("Contents", ())]


ODD_IDS = ("é" * 200, "two\nlines", " ", '"')


@pytest.mark.usefixtures("translating")
async def test_results_come_back_under_the_users_ids_and_the_groups_name(system: System) -> None:
    content = b"".join(chat_line(GROUP, one) for one in ODD_IDS)

    batch = await run_batch(system, content)

    assert (batch.status, counts(batch), batch.errors) == ("completed", (4, 4, 0), None)
    output = lines_of(system, batch.output_file_id)
    assert set(output) == set(ODD_IDS)
    assert {line["response"]["body"]["model"] for line in output.values()} == {GROUP}
    assert batch.error_file_id is None
    [upload] = system.provider.log(ACCOUNT, "files.create")
    assert "é" not in str(upload)
    assert stored(system) == []


@pytest.mark.usefixtures("translating")
async def test_a_line_that_cannot_be_translated_fails_alone(system: System) -> None:
    content = chat_lines(GROUP, 3) + bad_line("bad")

    batch = await run_batch(system, content)

    assert (batch.status, counts(batch), batch.errors) == ("completed", (4, 3, 1), None)
    [(custom_id, line)] = lines_of(system, batch.error_file_id).items()
    assert custom_id == "bad"
    assert (line["response"]["status_code"], line["response"]["body"]["error"]["param"]) == (400, "logit_bias")
    assert len(lines_of(system, batch.output_file_id)) == 3


@pytest.mark.usefixtures("translating")
async def test_a_batch_of_none_but_such_lines_ends_without_a_job_at_the_provider(system: System) -> None:
    batch = await run_batch(system, b"".join(bad_line(f"bad-{number}") for number in range(3)))

    assert (batch.status, counts(batch), batch.errors) == ("completed", (3, 0, 3), None)
    assert set(lines_of(system, batch.error_file_id)) == {"bad-0", "bad-1", "bad-2"}
    assert batch.output_file_id is None
    assert system.provider.log(ACCOUNT, "files.create") == system.provider.log(ACCOUNT, "batches.create") == []


@pytest.mark.usefixtures("translating")
async def test_failures_among_the_answers_come_into_the_error_file(system: System) -> None:
    fail = chat_line(GROUP, "fails", "fail-this-line")

    batch = await run_batch(system, chat_lines(GROUP, 2) + fail + bad_line("bad"))

    assert counts(batch) == (4, 2, 2)
    assert set(lines_of(system, batch.error_file_id)) == {"fails", "bad"}


@pytest.mark.usefixtures("translating")
async def test_a_failed_job_is_told_of_without_ids_of_its_input(system: System) -> None:
    file = await system.upload(chat_lines(GROUP, 2))
    batch = await system.create(file.id)
    await system.deliver_all()
    [input_id] = [str(row["id"]) for row in system.select("SELECT id FROM inputs")]
    ending = Ending(state="failed", code="mismatched_model", message=f"Request '{input_id}-1' is wrong")
    system.provider.state.batches.defects[ACCOUNT] = Defects(ending=ending)

    batch = await system.run_until_ended(batch.id)

    assert batch.errors is not None
    assert [error.message for error in batch.errors.data] == [f"Request '{file.id}-1' is wrong"]


@pytest.mark.usefixtures("sending")
async def test_lines_that_travel_with_the_job_are_kept_until_the_file_is_purged(system: System) -> None:
    file = await system.upload(chat_lines(GROUP, 3) + bad_line("bad"))
    first = await system.run_until_ended((await system.create(file.id)).id)
    again = await system.run_until_ended((await system.create(file.id)).id)

    assert [counts(one) for one in (first, again)] == [(4, 3, 1)] * 2
    assert len(stored(system)) == 2

    await system.call_files("DELETE", f"/files/{file.id}")
    await system.deliver_all()
    assert stored(system) == []


@pytest.mark.usefixtures("translating")
async def test_an_answer_to_no_request_of_the_input_is_left_out_and_said(system: System) -> None:
    system.provider.state.batches.defects[ACCOUNT] = Defects(misnamed=1)

    batch = await run_batch(system, chat_lines(GROUP, 3))

    assert "no-request" not in str(lines_of(system, batch.output_file_id))
    assert batch.errors is not None
    assert {error.code for error in batch.errors.data} & {"results_invalid", "results_incomplete"}


@pytest.mark.usefixtures("translating")
async def test_a_route_that_the_provider_does_not_have_fails_with_its_name(system: System) -> None:
    body = {"model": GROUP, "input": "hi"}
    line = {"custom_id": "one", "method": "POST", "url": "/v1/embeddings", "body": body}
    file = await system.upload(json.dumps(line).encode())

    batch = await system.run_until_ended((await system.create(file.id, endpoint="/v1/embeddings")).id)

    assert batch.status == "failed"
    assert "/v1/embeddings" in str(batch.errors)
    assert system.provider.log(ACCOUNT, "files.create") == []
