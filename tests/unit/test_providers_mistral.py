"""Mistral's batch jobs become OpenAI's batches. The shapes are those of `BatchJob` in mistralai 3.7.0."""

from typing import Any

import httpx
import pytest

from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Job, JobStatus, LineFailure
from manifold.providers.batch_client import BatchClient
from manifold.providers.mistral import batches as mistral
from manifold.providers.mistral.batches import MistralBatches, as_openai, timeout_hours
from manifold.providers.openai.batch_object import job_status

AT = Endpoint("mistral-small-latest", "https://api.mistral.ai/v1", "key-of-mistral")
JOB = Job("job_A1", "file_1", "/v1/chat/completions", "24h", 1_764_000_000, input_id="input_A1")


def job(**members: Any) -> dict[str, Any]:
    return {
        "id": "b1",
        "object": "batch",
        "input_files": ["file_1"],
        "metadata": {"manifold_job_id": "job_A1"},
        "endpoint": "/v1/chat/completions",
        "model": "mistral-small-latest",
        "output_file": None,
        "error_file": None,
        "errors": [],
        "status": "QUEUED",
        "created_at": 1_764_000_010,
        "total_requests": 0,
        "completed_requests": 0,
        "succeeded_requests": 0,
        "failed_requests": 0,
        **members,
    }


COUNTS = {"total_requests": 3, "completed_requests": 3, "succeeded_requests": 2, "failed_requests": 1}


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({}, JobStatus("validating")),
        ({"status": "RUNNING", "total_requests": 3}, JobStatus("in_progress", 3)),
        (
            {"status": "SUCCESS", **COUNTS, "output_file": "o", "error_file": "e", "errors": [{"message": "No."}]},
            JobStatus("completed", 3, 2, 1, "o", "e"),
        ),
        ({"status": "TIMEOUT_EXCEEDED", **COUNTS, "output_file": "o"}, JobStatus("expired", 3, 2, 1, "o")),
        ({"status": "CANCELLATION_REQUESTED"}, JobStatus("cancelling")),
        ({"status": "CANCELLED"}, JobStatus("cancelled")),
        (
            {"status": "FAILED", "errors": [{"message": "Bad line.", "count": 3}]},
            JobStatus("failed", errors=(LineFailure(None, "Bad line."),)),
        ),
        ({"status": "PONDERING"}, None),
        ({"status": None}, None),
    ],
)
def test_the_status_of_a_job(members: dict[str, Any], status: JobStatus | None) -> None:
    assert job_status(as_openai(job(**members))) == status


@pytest.mark.parametrize(("window", "hours"), [("24h", 24), ("30m", 1), ("90m", 2), ("7d", 167), ("30d", 167)])
def test_the_window_is_a_time_limit_of_less_than_a_week(window: str, hours: int) -> None:
    assert timeout_hours(window) == hours


def server(*pages: list[dict[str, Any]], requests: list[httpx.Request]) -> MistralBatches:
    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.method == "POST":
            return httpx.Response(200, json=job())
        number = int(request.url.params["page"])
        page = pages[min(number, len(pages) - 1)] if pages else []
        return httpx.Response(200, json={"object": "list", "total": len(page), "data": page})

    return MistralBatches(BatchClient(httpx.MockTransport(answer)))


async def test_a_job_names_its_model_its_file_and_our_id() -> None:
    requests: list[httpx.Request] = []
    assert await server(requests=requests).submit(AT, JOB) == "b1"
    assert str(requests[0].url) == "https://api.mistral.ai/v1/batch/jobs"
    assert requests[0].read() == (
        b'{"input_files":["file_1"],"endpoint":"/v1/chat/completions","model":"mistral-small-latest","timeout_hours":24,'
        b'"metadata":{"manifold_job_id":"job_A1"}}'
    )


async def test_a_job_is_found_by_our_id_on_a_later_page() -> None:
    requests: list[httpx.Request] = []
    others = [job(id="x", metadata={"manifold_job_id": "job_X"}), job(id="y", metadata={"manifold_job_id": "job_Y"})]
    assert await server(others, [job(id="b7")], [], requests=requests).find(AT, JOB) == "b7"
    assert [dict(one.url.params) for one in requests] == [
        {"page": "0", "page_size": "100"},
        {"page": "1", "page_size": "100"},
    ]


async def test_a_job_that_is_not_listed_does_not_exist() -> None:
    requests: list[httpx.Request] = []
    other = job(id="x", metadata={"manifold_job_id": "job_X"})
    assert await server([other], [], requests=requests).find(AT, JOB) is None
    assert len(requests) == 2


async def test_the_search_ends_where_jobs_are_older() -> None:
    requests: list[httpx.Request] = []
    old = job(id="x", metadata=None, created_at=1_763_000_000)
    assert await server([old], [job(id="b7")], requests=requests).find(AT, JOB) is None
    assert len(requests) == 1


async def test_a_listing_without_end_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistral, "MAX_PAGES", 3)
    requests: list[httpx.Request] = []
    pages = [[job(id=str(number), metadata={"manifold_job_id": "other"})] for number in range(4)]
    with pytest.raises(ProviderUnclear, match="does not end"):
        await server(*pages, requests=requests).find(AT, JOB)


def refusing(body: dict[str, Any]) -> MistralBatches:
    return MistralBatches(BatchClient(httpx.MockTransport(lambda _: httpx.Response(404, json=body))))


async def test_a_file_that_is_gone_is_known_by_its_answer_without_a_code() -> None:
    gone = refusing({"detail": "No file matches the given query."})
    await gone.discard(AT, "file_1")
    with pytest.raises(InputLost):
        await gone.submit(AT, JOB)


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, {}])
async def test_a_path_that_does_not_exist_is_no_lost_file(body: dict[str, Any]) -> None:
    with pytest.raises(ProviderRefused):
        await refusing(body).discard(AT, "file_1")
    with pytest.raises(ProviderRefused) as refused:
        await refusing(body).submit(AT, JOB)
    assert not isinstance(refused.value, InputLost)
