"""Lines of Bedrock's batches: of Converse, of Claude and of embeddings."""

import base64
import struct
from typing import Any

import pytest

from manifold.errors import InvalidRequest
from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest, LineResult, LineTranslator
from manifold.providers.bedrock.batch_lines import invocation_type, translator

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
CLAUDE, NOVA = "us.anthropic.claude-sonnet-5-20260101-v1:0", "us.amazon.nova-2-lite-v1:0"
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-multilingual-v3"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def lines(model: str, base_model: str | None = None, **options: str) -> LineTranslator:
    return translator(Endpoint(model, "", "", base_model=base_model, options=options))


def model_input(model: str, body: dict[str, Any], route: str = CHAT, *, drop_params: bool = False) -> dict[str, Any]:
    line = lines(model).request(LineRequest("input_A-0", route, body, drop_params))
    assert line.keys() == {"recordId", "modelInput"}
    assert line["recordId"] == "input_A-0"
    return dict(line["modelInput"])


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "group", "messages": [{"role": "user", "content": "2 + 2?"}], **more}


def refused(model: str, body: dict[str, Any], route: str = CHAT) -> str | None:
    with pytest.raises(InvalidRequest) as error:
        model_input(model, body, route)
    return error.value.param


@pytest.mark.parametrize(
    ("model", "base_model", "option", "kind"),
    [
        (CLAUDE, None, None, "InvokeModel"),
        (CLAUDE, None, "converse", "Converse"),
        (NOVA, None, None, "Converse"),
        (NOVA, None, "invoke", "InvokeModel"),
        (TITAN, None, None, "InvokeModel"),
        (COHERE, None, None, "InvokeModel"),
        (PROFILE, None, None, "Converse"),
        (PROFILE, CLAUDE, None, "InvokeModel"),
    ],
)
def test_the_invocation_type_follows_from_the_model(
    model: str, base_model: str | None, option: str | None, kind: str
) -> None:
    options = {"bedrock_invocation": option} if option else {}
    assert invocation_type(Endpoint(model, "", "", base_model=base_model, options=options)) == kind


def test_converse_has_no_model_in_its_records() -> None:
    assert model_input(NOVA, chat(max_tokens=9)) == {
        "messages": [{"role": "user", "content": [{"text": "2 + 2?"}]}],
        "inferenceConfig": {"maxTokens": 9},
    }


def test_claude_has_the_version_instead_of_the_model() -> None:
    assert model_input(CLAUDE, chat(max_tokens=9, stream=True)) == {
        "anthropic_version": "bedrock-2023-05-31",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}],
        "max_tokens": 9,
    }


def test_only_claude_takes_tools() -> None:
    assert model_input(CLAUDE, chat(tools=[TOOL]))["tools"][0]["name"] == "add"
    assert refused(NOVA, chat(tools=[TOOL])) == "tools"
    with pytest.raises(InvalidRequest):
        model_input(NOVA, chat(tools=[TOOL]), drop_params=True)


@pytest.mark.parametrize("parameter", [{"user": "u-1"}, {"safety_identifier": "u-1"}, {"service_tier": "default"}])
def test_members_that_only_anthropic_has_are_refused_or_left_out(parameter: dict[str, Any]) -> None:
    assert refused(CLAUDE, chat(**parameter)) == next(iter(parameter))
    assert model_input(CLAUDE, chat(max_tokens=9, **parameter), drop_params=True).keys() == {
        "anthropic_version",
        "messages",
        "max_tokens",
    }


@pytest.mark.parametrize("model", [CLAUDE, NOVA])
def test_bedrock_fetches_no_images(model: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, picture]}]}
    assert (refused(model, body) or "").startswith("messages")


def test_only_claude_and_embeddings_run_by_invoke_model() -> None:
    with pytest.raises(InvalidRequest) as error:
        lines(NOVA, bedrock_invocation="invoke").request(LineRequest("input_A-0", CHAT, chat()))
    assert error.value.param == "model"


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (TITAN, {"input": "a"}, {"inputText": "a"}),
        (TITAN, {"input": ["a"], "dimensions": 256}, {"inputText": "a", "dimensions": 256}),
        (TITAN, {"input": "a", "normalize": False}, {"inputText": "a", "normalize": False}),
        (
            "amazon.titan-embed-image-v1",
            {"input": "a", "dimensions": 256},
            {"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 256}},
        ),
        (
            COHERE,
            {"input": ["a", "b"]},
            {"texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"]},
        ),
        (
            "cohere.embed-v4:0",
            {"input": "a", "dimensions": 256, "input_type": "search_query"},
            {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 256},
        ),
    ],
)
def test_requests_for_embeddings(model: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert model_input(model, body, EMBEDDINGS) == expected


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        (TITAN, {"input": ["a", "b"]}, "input"),
        (TITAN, {"input": []}, "input"),
        (TITAN, {"input": [1, 2]}, "input"),
        (TITAN, {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        (TITAN, {"input": "a", "user": "u"}, "user"),
        ("amazon.titan-embed-text-v1", {"input": "a", "dimensions": 256}, "dimensions"),
        (COHERE, {"input": "a", "dimensions": 256}, "dimensions"),
        (COHERE, {"input": ["a"] * 97}, "input"),
    ],
)
def test_requests_for_embeddings_that_cannot_be_translated(model: str, body: dict[str, Any], param: str) -> None:
    assert refused(model, body, EMBEDDINGS) == param


def result(model: str, **outcome: Any) -> LineResult:
    return lines(model).result({"recordId": "input_A-0", "modelInput": {}, **outcome})


@pytest.mark.parametrize(
    ("model", "output"),
    [
        (
            NOVA,
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "Four."}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 12, "outputTokens": 3, "totalTokens": 15},
            },
        ),
        (
            CLAUDE,
            {
                "id": "msg_1",
                "type": "message",
                "model": "claude-sonnet-5",
                "content": [{"type": "text", "text": "Four."}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 12, "output_tokens": 3},
            },
        ),
    ],
)
def test_answers_become_chat_completions(model: str, output: dict[str, Any]) -> None:
    answered = result(model, modelOutput=output)
    assert answered.body is not None
    assert answered.body["choices"][0]["message"]["content"] == "Four."
    assert answered.body["usage"]["total_tokens"] == 15


@pytest.mark.parametrize(
    ("model", "output", "vectors", "tokens"),
    [
        (TITAN, {"embedding": [0.5, 1], "inputTextTokenCount": 2}, [[0.5, 1]], 2),
        (COHERE, {"embeddings": [[0.5], [1.0]], "texts": ["a", "b"]}, [[0.5], [1.0]], 0),
        (COHERE, {"embeddings": {"float": [[0.5]]}, "response_type": "embeddings_by_type"}, [[0.5]], 0),
    ],
)
def test_answers_become_embeddings(model: str, output: dict[str, Any], vectors: list[list[float]], tokens: int) -> None:
    body = result(model, modelOutput=output).body
    assert body is not None
    assert [entry["embedding"] for entry in body["data"]] == vectors
    assert [entry["index"] for entry in body["data"]] == list(range(len(vectors)))
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_vectors_in_base64() -> None:
    body = {"input": "a", "encoding_format": "base64"}
    line = lines(TITAN).request(LineRequest("input_A-0", EMBEDDINGS, body))
    assert line["modelInput"] == {"inputText": "a"}
    answered = lines(TITAN).result({**line, "modelOutput": {"embedding": [0.5, 1], "inputTextTokenCount": 1}})
    assert answered.id == "input_A-0"
    assert answered.body is not None
    assert base64.b64decode(answered.body["data"][0]["embedding"]) == struct.pack("<2f", 0.5, 1)
    failed = lines(TITAN).result({**line, "error": {"errorCode": 400, "errorMessage": "No."}})
    assert (failed.id, failed.status) == ("input_A-0", 400)


@pytest.mark.parametrize("output", [{}, {"embedding": []}, {"embedding": ["x"]}, {"embeddings": {"int8": [[1]]}}])
def test_an_answer_without_an_embedding_is_a_failure_of_the_provider(output: dict[str, Any]) -> None:
    assert result(TITAN, modelOutput=output).status == 502


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"errorCode": 400, "errorMessage": "Malformed input request"}, 400, None),
        ({"errorCode": "429", "errorMessage": "Too many requests"}, 429, None),
        ({"errorCode": 400, "errorMessage": "Input is too long for requested model."}, 400, "context_length_exceeded"),
        ({"errorCode": "InternalServerException", "errorMessage": "Oops"}, 500, None),
        ("Oops", 500, None),
    ],
)
def test_failed_records(error: object, status: int, code: str | None) -> None:
    failed = result(CLAUDE, error=error)
    assert failed.failed
    assert failed.status == status
    assert failed.body is not None
    assert failed.body["error"]["code"] == code


def test_an_expired_record_has_no_response() -> None:
    expired = result(NOVA, error={"errorCode": 500, "errorMessage": "The record expired before it was processed"})
    assert (expired.code, expired.body) == ("batch_expired", None)
