"""Rows of Cohere's batches and their results, and Cohere's batches as jobs.

The shapes are those of cohere-developer-experience's notebook of batches, of cohere 7.3.1, and of ruby_llm's tests at
the API.
"""

import struct
from base64 import b64encode
from typing import Any

import orjson
import pytest

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers import JobStatus, LineFailure
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.cohere.batch_lines import CohereLines
from manifold.providers.cohere.batches import job_status

LINES = CohereLines("command-a")
USER = {"role": "user", "content": "Hi"}
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def row(route: str = CHAT, *, drop_params: bool = False, **body: Any) -> Any:
    line = LINES.request(LineRequest("input_a-1", route, {"model": "group", **body}, drop_params))
    assert line["custom_id"].removesuffix("_base64") == "input_a-1"
    return line["body"]


def test_a_chat_has_the_members_of_the_schema() -> None:
    body = row(messages=[{"role": "system", "content": "Be brief."}, USER], max_tokens=5, top_p=0.5, seed=3, top_k=2)
    assert body == {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        "max_tokens": 5,
        "p": 0.5,
        "k": 2,
        "seed": 3,
    }


def test_what_the_schema_has_as_texts_is_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
    messages = [
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ]
    body = row(messages=messages, tools=[TOOL])
    assert body["messages"][0]["content"] == [{"type": "image_url", "image_url": "https://example.com/a.png"}]
    assert body["messages"][1] == {"role": "assistant", "tool_calls": [call]}
    assert body["messages"][2]["content"] == [{"type": "text", "text": "Sunny"}]
    assert orjson.loads(body["tools"][0]["function"]["parameters"]) == SCHEMA


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [("none", {"reasoning": False}), ("low", {"reasoning": True, "thinking_budget": 2048})],
)
def test_thinking_is_two_members(effort: str, thinking: dict[str, Any]) -> None:
    body = row(messages=[USER], reasoning_effort=effort)
    assert {name: body[name] for name in body.keys() - {"messages"}} == thinking


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop", ["\n"]),
        ("response_format", {"type": "json_object"}),
        ("tool_choice", "required"),
        ("tools", [TOOL | {"function": TOOL["function"] | {"strict": True}}]),
        ("documents", [{"data": "a"}]),
        ("logit_bias", {"1": 1}),
    ],
)
def test_what_the_schema_lacks_is_refused_or_left_out(name: str, value: object) -> None:
    body: dict[str, Any] = {"messages": [USER], "tools": [TOOL], name: value}
    with pytest.raises(InvalidRequest) as refused:
        row(**body)
    assert (refused.value.param, refused.value.code) == (name, "unsupported_parameter")
    assert row(drop_params=True, **body).keys() == {"messages", "tools"}


def test_embeddings() -> None:
    plain = {"texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]}
    assert row(EMBEDDINGS, input="a") == plain
    assert row(EMBEDDINGS, input=["a", "b"], encoding_format="base64", input_type="search_query", truncate="END") == {
        "texts": ["a", "b"],
        "input_type": "search_query",
        "embedding_types": ["float"],
        "truncate": "END",
    }
    assert row(EMBEDDINGS, input="a", dimensions=256, user="u", drop_params=True) == plain


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("input", {"input": [1, 2]}),
        ("input", {"input": []}),
        ("input", {}),
        ("encoding_format", {"input": "a", "encoding_format": "int8"}),
        ("dimensions", {"input": "a", "dimensions": 256}),
        ("user", {"input": "a", "user": "u"}),
    ],
)
def test_an_embedding_that_cannot_be_translated(param: str, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        row(EMBEDDINGS, **body)
    assert refused.value.param == param


ANSWER = {
    "id": "c1",
    "finish_reason": "COMPLETE",
    "message": {
        "role": "assistant",
        "content": [{"type": "text", "text": "Hi", "thinking": None}],
        "tool_calls": None,
        "tool_plan": None,
        "citations": None,
    },
    "usage": {"billed_units": None, "tokens": {"input_tokens": 3.0, "output_tokens": 1.0}, "cached_tokens": None},
    "logprobs": None,
}


@pytest.mark.parametrize(
    "line",
    [
        {"custom_id": "a", "body": ANSWER, "error": ""},
        {"custom_id": "a", "body": ANSWER, "error": None},
        {"custom_id": "a", "body": orjson.dumps(ANSWER).decode()},
        {"custom_id": "a", "response": ANSWER},
    ],
    ids=["empty error", "null error", "text", "response"],
)
def test_an_answer(line: dict[str, Any]) -> None:
    result = LINES.result(line)
    assert (result.id, result.status, result.failed) == ("a", 200, False)
    assert result.body is not None
    assert result.body["choices"][0]["message"]["content"] == "Hi"
    assert result.body["model"] == "command-a"
    assert result.body["usage"]["total_tokens"] == 4


def test_embeddings_in_an_answer() -> None:
    meta = {"billed_units": {"input_tokens": 4.0}}
    body = {"id": "e1", "embeddings": {"float": [[0.5], [1.5]], "base64": None}, "meta": meta}
    assert LINES.result({"custom_id": "a", "body": body, "error": ""}).body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5]},
            {"object": "embedding", "index": 1, "embedding": [1.5]},
        ],
        "model": "command-a",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    encoded = LINES.result({"custom_id": "a_base64", "body": body})
    assert encoded.body is not None
    assert (encoded.id, encoded.body["data"][0]["embedding"]) == ("a", b64encode(struct.pack("<f", 0.5)).decode())
    line = LINES.request(LineRequest("a", EMBEDDINGS, {"input": "a", "encoding_format": "base64"}))
    assert line["custom_id"] == "a_base64"


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ({"error": "Invalid request", "body": None}, LineResult("a", code="request_failed", message="Invalid request")),
        ({"error": {"message": "No.", "status_code": 429}}, LineResult.refused("a", "No.", status=429)),
        ({"body": ANSWER | {"finish_reason": "ERROR"}}, LineResult.refused("a", "ERROR", status=500)),
        (
            {"body": ANSWER | {"finish_reason": "ERROR_TOXIC"}},
            LineResult.refused("a", "ERROR_TOXIC", status=400, code="content_filter"),
        ),
    ],
)
def test_a_failure(line: dict[str, Any], result: LineResult) -> None:
    assert LINES.result({"custom_id": "a", **line}) == result


@pytest.mark.parametrize("body", [None, {"embeddings": {"float": None}}])
def test_a_record_that_holds_no_result(body: object) -> None:
    with pytest.raises(ProviderUnclear):
        LINES.result({"custom_id": "a", "body": body, "error": ""})


def batch(status: object, **members: Any) -> dict[str, Any]:
    counts = {"num_records": 3, "num_successful_records": 2, "num_failed_records": 1, "output_tokens": "12"}
    return {"id": "b1", "name": "job_A1", "status": status, "output_dataset_id": "", **counts, **members}


@pytest.mark.parametrize(
    ("members", "status"),
    [
        (batch("BATCH_STATUS_QUEUED"), JobStatus("validating", 3, 2, 1)),
        (batch("BATCH_STATUS_IN_PROGRESS", output_dataset_id="d"), JobStatus("in_progress", 3, 2, 1)),
        (batch("BATCH_STATUS_CANCELING"), JobStatus("cancelling", 3, 2, 1)),
        (batch("BATCH_STATUS_COMPLETED", output_dataset_id="d"), JobStatus("completed", 3, 2, 1, "d")),
        (batch("BATCH_STATUS_CANCELED", output_dataset_id="d"), JobStatus("cancelled", 3, 2, 1, "d")),
        (
            batch("BATCH_STATUS_FAILED", status_reason="Bad model."),
            JobStatus("failed", 3, 2, 1, errors=(LineFailure(None, "Bad model."),)),
        ),
        (batch("BATCH_STATUS_UNSPECIFIED"), None),
        (batch(None), None),
    ],
)
def test_the_status_of_a_batch(members: dict[str, Any], status: JobStatus | None) -> None:
    assert job_status(members) == status


@pytest.mark.parametrize("vector", [[0.5, None], ["a"], [{}], [1e39]])
def test_a_vector_that_cannot_be_encoded_is_a_failed_line(vector: list[Any]) -> None:
    body = {"id": "e1", "embeddings": {"float": [vector]}}
    with pytest.raises((ProviderUnclear, ValueError, OverflowError)):
        LINES.result({"custom_id": "a_base64", "body": body, "error": ""})
