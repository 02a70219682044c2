"""xAI's files and batches. Files are as OpenAI's; a batch has counters instead of a status, and pages of results.

https://docs.x.ai/developers/rest-api-reference/inference/batches; `xai/api/v1/batch.proto`, as xai-sdk-python has it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any

import orjson

from manifold.errors import ProviderUnclear
from manifold.providers import ENDED, Endpoint, Job, JobState
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import MAX_PAGES
from manifold.providers.openai.batch_object import count, listed, mapping
from manifold.providers.openai.batches import INPUT_SECONDS, JOB_ID_KEY, OpenAIBatches

RESULTS, ERRORS = "results", "errors"
"""The prefixes of an `output_ref` and an `error_ref`, before the batch's id: xAI has one list of both."""
PAGE = 100
LAST_SECOND = 86_399
NO_RESPONSE = "xAI gave no response to this request."


class XAIBatches(OpenAIBatches):
    """A `BatchProvider` of xAI. Its batches are translated into OpenAI's, and then handled as those are."""

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        kind, _, batch_id = ref.partition(":")
        async for page in self._result_pages(endpoint, batch_id):
            lines = [line for line in map(output_line, page) if (line["response"] is None) == (kind == ERRORS)]
            if lines:
                yield b"".join(orjson.dumps(line) + b"\n" for line in lines)

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete an input. Results belong to the batch, and cannot be deleted alone."""
        if not ref.startswith((f"{RESULTS}:", f"{ERRORS}:")):
            await super().discard(endpoint, ref)

    def _expiry_fields(self) -> dict[str, str]:
        return {"expires_after": str(INPUT_SECONDS)}

    def _input_filter(self, endpoint: Endpoint) -> dict[str, str]:
        return {"limit": str(PAGE)}

    def _create_body(self, endpoint: Endpoint, job: Job) -> dict[str, Any]:
        """xAI has no metadata: the name is the job's id. Each line names the API that it calls."""
        return {"name": job.id, "input_file_id": job.input_ref}

    def _cancel_call(self, endpoint: Endpoint, ref: str) -> HttpCall:
        call = self._call(endpoint, "batches", ref)
        return call._replace(url=f"{call.url}:cancel")

    def _batch(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        return as_openai(answer)

    def _page(self, answer: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], dict[str, str] | None]:
        page, token = listed(answer, "batches", "data"), answer.get("pagination_token")
        return page, {"pagination_token": str(token)} if token and page else None

    def _is_past(self, page: Sequence[Mapping[str, Any]], since: int) -> bool:
        """The order of listings is not documented, so all pages are read."""
        return False

    async def _result_pages(self, endpoint: Endpoint, batch_id: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        cursor: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            call = self._call(endpoint, "batches", batch_id, "results", limit=str(PAGE), **cursor)
            answer = await self._client.call("GET", call)
            page = answer.get("results")
            if not isinstance(page, list):
                raise ProviderUnclear("a page of results without results")
            yield [mapping(result) for result in page]
            token = answer.get("pagination_token")
            if not token or not page:
                return
            if cursor == (following := {"pagination_token": str(token)}):
                break
            cursor = following
        raise ProviderUnclear("results that do not end")


def as_openai(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """xAI's batch as OpenAI's, with the members that this gateway reads.

    Whether cancelled requests are among the results is not documented: they are not counted as such.
    """
    counts = {name: _count(batch, f"num_{name}") for name in ("requests", "pending", "success", "error")}
    name, batch_id, reason = batch.get("name"), batch.get("batch_id"), batch.get("cancel_by_xai_message")
    failed, state = counts["error"], _state(batch, counts)
    ended = state in ENDED
    return {
        "id": batch_id,
        "status": state,
        "metadata": {JOB_ID_KEY: name} if name else None,
        "input_file_id": batch.get("input_file_id"),
        "created_at": _latest(batch.get("create_time")),
        "request_counts": {"total": counts["requests"], "completed": counts["success"], "failed": failed},
        "output_file_id": f"{RESULTS}:{batch_id}" if ended and counts["success"] else None,
        "error_file_id": f"{ERRORS}:{batch_id}" if ended and failed else None,
        "errors": {"data": [{"message": reason}]} if reason else None,
    }


def output_line(result: Mapping[str, Any]) -> dict[str, Any]:
    """One of xAI's results as a line of OpenAI's output or error file. The response's key is named after the API."""
    custom_id, outcome = result.get("batch_request_id"), mapping(result.get("batch_result"))
    line = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": None, "error": None}
    body = next(iter(mapping(outcome.get("response")).values()), None)
    if isinstance(body, dict):
        return line | {"response": {"status_code": 200, "request_id": body.get("id"), "body": body}}
    error = mapping(outcome.get("error"))
    code, message = error.get("code"), error.get("message") or result.get("error_message")
    return line | {"error": {"code": str(code or "request_failed"), "message": message or NO_RESPONSE}}


def _state(batch: Mapping[str, Any], counts: Mapping[str, int]) -> JobState:
    """xAI cancels an invalid batch itself, with a message. Before it has read the input, it counts no requests."""
    if batch.get("cancel_time"):
        return "failed" if batch.get("cancel_by_xai_message") else "cancelled"
    if not counts["requests"]:
        return "validating"
    return "in_progress" if counts["pending"] else "completed"


def _count(batch: Mapping[str, Any], name: str) -> int:
    return count(mapping(batch.get("state")).get(name))


def _latest(created: object) -> object:
    """The last second of the day, as Unix seconds, where xAI tells only the day."""
    try:
        day = date.fromisoformat(str(created))
    except ValueError:
        return created
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400 + LAST_SECOND
