"""xAI's batches and results become OpenAI's.

The shapes are those of docs.x.ai/developers/rest-api-reference/inference/batches and of `xai/api/v1/batch.proto` in
xai-sdk-python; errors and cancellations as LiteLLM's and Vercel's adapters read them.
"""

from itertools import count
from typing import Any

import httpx
import pytest

from manifold.errors import ProviderUnclear
from manifold.providers import Endpoint, JobStatus, LineFailure
from manifold.providers.batch_client import BatchClient
from manifold.providers.openai.batch_object import job_status
from manifold.providers.xai import batches as xai
from manifold.providers.xai.batches import XAIBatches, as_openai, output_line

NOBODY = {"num_requests": 0, "num_pending": 0, "num_success": 0, "num_error": 0, "num_cancelled": 0}
COMPLETION = {"id": "e7c2162b", "object": "chat.completion", "choices": []}


def batch(**members: Any) -> dict[str, Any]:
    counts = NOBODY | {key: members.pop(key) for key in list(members) if key.startswith("num_")}
    return {
        "batch_id": "batch_1934e8b5",
        "name": "job_1",
        "create_time": "2025-11-11",
        "expire_time": "2025-11-12",
        "create_api_key_id": "****",
        "cancel_time": None,
        "cancel_by_xai_message": None,
        "state": counts,
        "input_file_id": "file_07",
        **members,
    }


@pytest.mark.parametrize(
    ("members", "status"),
    [
        (batch(), JobStatus("validating")),
        (batch(num_requests=3, num_pending=2, num_success=1), JobStatus("in_progress", 3, 1, 0)),
        (
            batch(num_requests=3, num_success=2, num_error=1),
            JobStatus("completed", 3, 2, 1, "results:batch_1934e8b5", "errors:batch_1934e8b5"),
        ),
        (batch(num_requests=1, num_success=1), JobStatus("completed", 1, 1, 0, "results:batch_1934e8b5")),
        (
            batch(num_requests=3, num_success=1, num_cancelled=2, cancel_time="2025-11-11"),
            JobStatus("cancelled", 3, 1, 0, "results:batch_1934e8b5"),
        ),
        (
            batch(cancel_time="2025-11-11", cancel_by_xai_message="JSONL file validation failed"),
            JobStatus("failed", errors=(LineFailure(None, "JSONL file validation failed"),)),
        ),
        ({"batch_id": "batch_1", "state": None}, JobStatus("validating")),
        ({"batch_id": "batch_1", "state": {"num_requests": None}}, JobStatus("validating")),
    ],
)
def test_the_counters_tell_the_status(members: dict[str, Any], status: JobStatus) -> None:
    assert job_status(as_openai(members)) == status


def test_a_day_is_taken_at_its_end_so_that_no_batch_seems_older_than_it_is() -> None:
    assert as_openai(batch())["created_at"] == 1_762_905_599
    assert as_openai(batch(create_time="2025-11-11T12:00:00Z"))["created_at"] == "2025-11-11T12:00:00Z"


@pytest.mark.parametrize("named", ["chat_get_completion", "responses"])
def test_a_response_is_that_of_the_api_called(named: str) -> None:
    line = output_line({"batch_request_id": "a", "batch_result": {"response": {named: COMPLETION}}})
    response = {"status_code": 200, "request_id": "e7c2162b", "body": COMPLETION}
    assert line == {"id": "batch_req_a", "custom_id": "a", "response": response, "error": None}


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"batch_result": {"error": {"code": 3, "message": "No."}}}, {"code": "3", "message": "No."}),
        ({"batch_result": None, "error_message": "No."}, {"code": "request_failed", "message": "No."}),
        (
            {"batch_result": {"response": {}}},
            {"code": "request_failed", "message": "xAI gave no response to this request."},
        ),
    ],
)
def test_what_has_no_response_is_an_error(result: dict[str, Any], error: dict[str, str]) -> None:
    line = output_line({"batch_request_id": "a", **result})
    assert (line["response"], line["error"]) == (None, error)


@pytest.mark.parametrize(("same", "most"), [(True, 2), (False, 5)])
async def test_results_that_do_not_end_are_given_up(same: bool, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xai, "MAX_PAGES", 5)
    tokens = count()

    def answer(_: httpx.Request) -> httpx.Response:
        page = [{"batch_request_id": "a", "batch_result": {"response": {"chat_get_completion": COMPLETION}}}]
        return httpx.Response(200, json={"results": page, "pagination_token": "same" if same else str(next(tokens))})

    http = BatchClient(httpx.MockTransport(answer))
    pages = XAIBatches(http).results(Endpoint("m", "https://a.example.com/v1", "key"), "results:batch_1")
    assert len([await anext(pages) for _ in range(most)]) == most
    with pytest.raises(ProviderUnclear, match="do not end"):
        await anext(pages)
    await http.close()
