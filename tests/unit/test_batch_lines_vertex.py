"""The lines of batches at Vertex AI, with the shapes of its documentation."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.vertex_ai.batch_lines import ClaudeLines, EmbeddingLines, GeminiLines, id_of, labels_of
from manifold.providers.vertex_ai.batches import VertexBatches

ID = "input_Ab3dE6gH9jK2mN5pQ8rS-999999"
GEMINI = GeminiLines(Endpoint("gemini-3.5-flash", "", ""))
CLAUDE = ClaudeLines(Endpoint("claude-sonnet-5@20260101", "", ""))
EMBEDDINGS = EmbeddingLines(Endpoint("gemini-embedding-001", "", ""))
LABEL = re.compile("[a-z0-9_-]{0,63}")
FAILURE = 'Bad Request: {"error": {"code": 400, "message": "Unknown name.", "status": "INVALID_ARGUMENT"}}'
CLAUDE_FAILURE = '{"type":"error","error":{"type":"rate_limit_error","message":"Slow down."}}'
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "output_tokens": 2},
}


def chat(**body: Any) -> LineRequest:
    return LineRequest(ID, "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], **body})


def failed(result: LineResult) -> tuple[int, str]:
    assert result.failed
    assert result.body is not None
    return result.status, result.body["error"]["message"]


@given(st.text("ABCabc019_-", min_size=1, max_size=64))
def test_the_labels_carry_any_id(request_id: str) -> None:
    labels = labels_of(request_id)
    assert id_of({"team": "x", **labels}) == request_id
    assert all(LABEL.fullmatch(text) for pair in labels.items() for text in pair)


@pytest.mark.parametrize("labels", [None, [], {}, {"manifold_id_1": 7}, {"manifold_id_1": "!"}, {"manifold_id_1": "a"}])
def test_other_labels_carry_none(labels: object) -> None:
    with pytest.raises(ProviderUnclear):
        id_of(labels)


def test_a_request_of_gemini_keeps_the_clients_labels_and_has_no_ids_of_calls() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    request = GEMINI.request(chat(messages=messages, labels={"team": "search"}))["request"]
    assert request["labels"] == {"team": "search", **labels_of(ID)}
    parts = [part for content in request["contents"] for part in content["parts"]]
    assert parts[1]["functionCall"] == {"name": "now", "args": {}}
    assert parts[2]["functionResponse"] == {"name": "now", "response": {"output": "noon"}}
    with pytest.raises(InvalidRequest) as caught:
        GEMINI.request(chat(labels="search"))
    assert caught.value.param == "labels"


def test_an_answer_of_gemini_is_known_by_the_labels_of_its_request() -> None:
    response = {
        "candidates": [{"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
        "createTime": "2026-01-02T03:04:05.678901Z",
    }
    line = {"status": "", "processed_time": "2026-01-02T03:04:06Z", "request": GEMINI.request(chat())["request"]}
    result = GEMINI.result({**line, "response": response})
    assert (result.id, result.status, result.failed) == (ID, 200, False)
    assert result.body is not None
    assert result.body["created"] == 1767323045
    assert failed(GEMINI.result({**line, "status": FAILURE, "response": {}})) == (400, "Unknown name.")
    assert failed(GEMINI.result({**line, "response": {}}))[0] == 500


def test_a_client_cannot_write_the_labels_of_an_id() -> None:
    line = GEMINI.request(chat(labels={"manifold_id_2": "geza"}))
    assert id_of(line["request"]["labels"]) == ID


@pytest.mark.parametrize("candidates", ["x", [{"content": 5}]])
def test_an_answer_that_cannot_be_read_is_a_failure_of_its_request(candidates: object) -> None:
    """The labels are the only place of its id."""
    line = {"request": {"labels": labels_of(ID)}, "response": {"candidates": candidates}}
    result = GEMINI.result(line)
    assert (result.id, failed(result)[0]) == (ID, 500)


def test_a_request_of_claude_goes_by_custom_id_and_names_vertex_version() -> None:
    line = CLAUDE.request(chat(max_tokens=9))
    assert line == {
        "custom_id": ID,
        "request": {
            "anthropic_version": "vertex-2023-10-16",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "max_tokens": 9,
        },
    }
    assert CLAUDE.request(chat())["request"]["max_tokens"] > 1000


def test_an_answer_of_claude() -> None:
    line = {"custom_id": ID, "status": "", "processed_time": "2026-01-02T03:04:05Z"}
    result = CLAUDE.result({**line, "response": MESSAGE})
    assert (result.id, result.failed) == (ID, False)
    assert result.body is not None
    assert result.body["choices"][0]["message"]["content"] == "Hello"
    assert result.body["created"] == 1767323045
    assert failed(CLAUDE.result({**line, "status": CLAUDE_FAILURE, "response": {}})) == (429, "Slow down.")
    refused = {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}
    assert failed(CLAUDE.result({**line, "response": refused})) == (400, "No.")
    with pytest.raises(ProviderUnclear):
        CLAUDE.result({"response": MESSAGE})


def test_an_embedding() -> None:
    request = LineRequest(ID, "/v1/embeddings", {"input": "Hi", "dimensions": 2, "task_type": "CLUSTERING"})
    assert EMBEDDINGS.request(request) == {
        "key": f"{ID}.2",
        "request": {
            "content": {"parts": [{"text": "Hi"}]},
            "embed_content_config": {"output_dimensionality": 2, "task_type": "CLUSTERING"},
        },
    }
    assert "embed_content_config" not in EMBEDDINGS.request(request._replace(body={"input": "Hi"}))["request"]
    line = {"key": f"{ID}.2", "status": "", "response": {"embedding": {"values": [1.0, 0.0]}, "tokenCount": "3"}}
    result = EMBEDDINGS.result(line)
    assert (result.id, result.failed) == (ID, False)
    assert result.body is not None
    assert result.body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert failed(EMBEDDINGS.result({**line, "status": FAILURE, "response": {}})) == (400, "Unknown name.")


def test_models_whose_results_cannot_be_told_apart_serve_no_route() -> None:
    assert EMBEDDINGS.routes == {"/v1/embeddings"}
    assert EmbeddingLines(Endpoint("text-embedding-005", "", "")).routes == frozenset()


@pytest.mark.parametrize(
    ("model", "base_model", "kind"),
    [
        ("gemini-3.5-flash", None, GeminiLines),
        ("claude-opus-5", None, ClaudeLines),
        ("projects/1/locations/eu/models/2", "claude-opus-5", ClaudeLines),
        ("gemini-embedding-2", None, EmbeddingLines),
    ],
)
def test_the_models_name_says_what_its_lines_are(model: str, base_model: str | None, kind: type) -> None:
    translator = VertexBatches.translator(None, Endpoint(model, "", "", base_model=base_model))  # type: ignore[arg-type]
    assert isinstance(translator, kind)
