"""The lines of batches at the Gemini API, with the shapes of its documentation."""

import base64
import json
import struct
from typing import Any

import pytest

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.gemini.batch_lines import ChatLines, EmbeddingLines, embeds

ID = "input_Ab3dE-17"
BASE = "https://generativelanguage.googleapis.com"
CHAT = ChatLines(Endpoint("gemini-3.5-flash", BASE, "key"))
EMBEDDINGS = EmbeddingLines(Endpoint("gemini-embedding-001", BASE, "key"))
USAGE = {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}


def embedding(**body: Any) -> LineRequest:
    return LineRequest(ID, "/v1/embeddings", {"model": "vectors", **body})


def answer(line: dict[str, Any]) -> LineResult:
    return EMBEDDINGS.result(json.loads(json.dumps(line)))


def test_a_chat_goes_by_our_id_and_without_a_model() -> None:
    body = {"model": "group", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
    assert CHAT.request(LineRequest(ID, "/v1/chat/completions", body)) == {
        "key": ID,
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "generationConfig": {"maxOutputTokens": 9},
        },
    }


def test_a_parameter_that_gemini_lacks_is_named_or_dropped() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "logit_bias": {"1": 2}}
    with pytest.raises(InvalidRequest) as caught:
        CHAT.request(LineRequest(ID, "/v1/chat/completions", body))
    assert caught.value.param == "logit_bias"
    assert "request" in CHAT.request(LineRequest(ID, "/v1/chat/completions", body, drop_params=True))


def test_an_answer_becomes_a_completion() -> None:
    content = {"role": "model", "parts": [{"text": "Hello"}]}
    response = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": USAGE}
    result = CHAT.result({"key": ID, "response": response})
    assert (result.id, result.status, result.failed) == (ID, 200, False)
    assert result.body is not None
    assert result.body["choices"][0]["message"]["content"] == "Hello"
    assert result.body["usage"]["total_tokens"] == 6


def test_a_blocked_prompt_is_an_answer_with_a_refusal() -> None:
    result = CHAT.result({"key": ID, "response": {"promptFeedback": {"blockReason": "SAFETY"}}})
    assert result.body is not None
    assert result.body["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ({"error": {"code": 3, "message": "bad"}}, 400),
        ({"status": {"code": 14, "message": "busy"}}, 503),
        ({"response": {"error": {"code": 429, "message": "wait"}}}, 429),
        ({"response": {}}, 500),
        ({"response": {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}}, 500),
        ({"response": {"candidates": []}}, 500),
        ({}, 500),
    ],
)
def test_a_failed_request_is_a_failed_line(line: dict[str, Any], status: int) -> None:
    result = CHAT.result({"key": ID, **line})
    assert (result.id, result.failed, result.status) == (ID, True, status)


@pytest.mark.parametrize("line", [{}, {"key": 7}, {"key": ""}])
def test_a_result_without_its_key_belongs_to_nobody(line: dict[str, Any]) -> None:
    for lines in (CHAT, EMBEDDINGS):
        with pytest.raises(ProviderUnclear):
            lines.result({"response": {}, **line})


def test_the_models_name_says_which_api_it_has() -> None:
    assert embeds(Endpoint("gemini-embedding-2", BASE, "key"))
    assert embeds(Endpoint("tuned", BASE, "key", base_model="gemini-embedding-001"))
    assert not embeds(Endpoint("gemini-3.5-flash", BASE, "key"))
    assert CHAT.routes == {"/v1/chat/completions"}
    assert EMBEDDINGS.routes == {"/v1/embeddings"}


@pytest.mark.parametrize("text", ["Hello", ["Hello"]])
def test_a_request_for_an_embedding(text: object) -> None:
    line = EMBEDDINGS.request(embedding(input=text, dimensions=3, encoding_format="base64", taskType="CLUSTERING"))
    assert line == {
        "key": f"{ID}.base64.3",
        "request": {"content": {"parts": [{"text": "Hello"}]}, "outputDimensionality": 3, "taskType": "CLUSTERING"},
    }
    assert EMBEDDINGS.request(embedding(input=text, encoding_format="float"))["key"] == ID


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", "b"]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": "3"}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "user": "u1"}, "user"),
    ],
)
def test_what_a_batch_of_embeddings_cannot_do_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBEDDINGS.request(embedding(**body))
    assert caught.value.param == param


def test_an_embedding_is_openais_and_its_usage_is_0_if_it_is_not_told() -> None:
    result = answer({"key": ID, "response": {"embedding": {"values": [0.5, -1]}, "usageMetadata": USAGE}})
    assert (result.id, result.failed) == (ID, False)
    assert result.body == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1]}],
        "model": "gemini-embedding-001",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    told = answer({"key": ID, "response": {"embedding": {"values": [1.0]}, "tokenCount": "5"}})
    untold = answer({"key": ID, "response": {"embedding": {"values": [1.0]}}})
    assert told.body is not None
    assert untold.body is not None
    assert told.body["usage"]["prompt_tokens"] == 5
    assert untold.body["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_an_embedding_comes_back_in_the_form_that_was_asked_for() -> None:
    result = answer({"key": f"{ID}.base64.2", "response": {"embedding": {"values": [3.0, 4.0, 12.0]}}})
    assert result.id == ID
    assert result.body is not None
    vector = struct.unpack("<2f", base64.b64decode(result.body["data"][0]["embedding"]))
    assert vector == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize("values", [[], None, ["1"], [True], {"0": 1.0}])
def test_an_answer_without_a_vector_is_a_failed_line(values: object) -> None:
    result = answer({"key": f"{ID}.base64", "response": {"embedding": {"values": values}}})
    assert (result.id, result.status) == (ID, 500)


def test_an_embedding_that_failed_is_a_failed_line() -> None:
    result = answer({"key": f"{ID}.3", "error": {"code": 400, "message": "bad"}})
    assert (result.id, result.status) == (ID, 400)
