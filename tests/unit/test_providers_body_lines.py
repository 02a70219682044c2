"""Lines with a `custom_id` and a `body` alone, and the results of providers that write them like OpenAI.

The shapes are those of docs.together.ai/docs/inference/batch/manage, of `mistralai.extra.batch` (mistralai 3.7.0), and
of programs that read Fireworks' output datasets.
"""

from typing import Any

import pytest

from manifold.errors import ProviderUnclear
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.openai.batch_lines import BodyLines, read_result

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ANSWER = {"id": "c1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
USER = [{"role": "user", "content": "Hi"}]


def lines(provider: str = "mistral", model: str | None = None) -> BodyLines:
    return BodyLines(provider, "https://api.example.com/v1", model, routes=frozenset({CHAT, EMBEDDINGS}))


def request(route: str = CHAT, *, drop_params: bool = False, **body: Any) -> LineRequest:
    return LineRequest("input_a-1", route, {"model": "group", **body}, drop_params)


def test_a_line_has_an_id_and_a_body_without_the_model() -> None:
    line = lines().request(request(messages=USER, temperature=0.5, stream=True, stream_options={"include_usage": True}))
    assert line == {"custom_id": "input_a-1", "body": {"messages": USER, "temperature": 0.5}}


def test_a_line_names_the_model_where_the_job_does_not() -> None:
    assert lines("together_ai", "llama").request(request(messages=USER))["body"] == {"model": "llama", "messages": USER}


def test_messages_are_adapted_to_the_server_as_those_of_completions() -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "hm",
    }
    sent = lines().request(request(messages=[*USER, answer, *USER]))["body"]["messages"]
    assert sent[1] == {"role": "assistant", "content": "Hi"}
    calls = [{"id": "call_123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    sent = lines().request(request(messages=[*USER, {"role": "assistant", "tool_calls": calls}]))["body"]["messages"]
    assert len(sent[1]["tool_calls"][0]["id"]) == 9


def test_the_body_of_an_embedding_is_sent_as_it_is() -> None:
    assert lines().request(request(EMBEDDINGS, input=["a"]))["body"] == {"input": ["a"]}


@pytest.mark.parametrize(("drop_params", "sent"), [(True, {"messages"}), (False, {"messages", "top_p"})])
def test_drop_params_leaves_out_what_a_reasoning_model_refuses(drop_params: bool, sent: set[str]) -> None:
    translator = BodyLines("together_ai", "https://api.example.com", "openai/gpt-5")
    line = translator.request(request(messages=USER, top_p=0.5, drop_params=drop_params))
    assert line["body"].keys() - {"model"} == sent


@pytest.mark.parametrize(
    "line",
    [
        {"id": "b", "custom_id": "a", "response": {"status_code": 200, "body": ANSWER}, "error": None},
        {"custom_id": "a", "response": {"status_code": 200, "body": ANSWER}},
        {"custom_id": "a", "response": {"body": ANSWER}, "error": ""},
        {"custom_id": "a", "response": ANSWER},
    ],
    ids=["Mistral", "Together", "no status", "Fireworks"],
)
def test_an_answer(line: dict[str, Any]) -> None:
    assert read_result(line) == LineResult("a", ANSWER)


OPENAI_ERROR = {"error": {"message": "Too long.", "type": "invalid_request_error", "param": "messages", "code": "x"}}
FAULTS = {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "Field required", "type": "missing"}]}
PLACE = "messages.0.content"


@pytest.mark.parametrize(
    ("response", "error", "result"),
    [
        ({"status_code": 400, "body": OPENAI_ERROR}, None, LineResult("a", OPENAI_ERROR, 400)),
        (
            {"status_code": 422, "body": FAULTS},
            None,
            LineResult.refused("a", f"{PLACE}: Field required", status=422, param=PLACE),
        ),
        (
            {"status_code": 422, "body": {"object": "error", "message": FAULTS, "type": "invalid_request_error"}},
            None,
            LineResult.refused("a", f"{PLACE}: Field required", status=422, param=PLACE),
        ),
        (
            {"status_code": 429, "body": {"object": "error", "message": "Slow down.", "type": "rate_limited"}},
            None,
            LineResult.refused("a", "Slow down.", status=429, code="rate_limited"),
        ),
        ({"status_code": 500, "body": "Oops"}, None, LineResult.refused("a", "Oops", status=500)),
        ({"status_code": 500, "body": None}, "Oops", LineResult.refused("a", "Oops", status=500)),
        ({"status_code": 503, "body": ""}, None, LineResult.refused("a", "The provider gave no reason.", status=503)),
        ({"error": {"message": "No."}}, None, LineResult("a", {"error": {"message": "No."}}, 500)),
        (
            {"status_code": 200, "body": {"error": {"message": "No.", "code": 401}}},
            None,
            LineResult("a", {"error": {"message": "No.", "code": 401}}, 401),
        ),
        (
            None,
            {"message": "Invalid model", "code": "invalid_model"},
            LineResult("a", code="invalid_model", message="Invalid model"),
        ),
        ({}, {"message": "Late.", "code": "batch_expired"}, LineResult("a", code="batch_expired", message="Late.")),
        (None, {"message": "No.", "code": 400}, LineResult.refused("a", "No.", status=400)),
        (None, "No.", LineResult("a", code="request_failed", message="No.")),
        (None, {"reason": 1}, LineResult("a", code="request_failed", message="The provider gave no reason.")),
    ],
)
def test_a_failure_in_whichever_file(response: object, error: object, result: LineResult) -> None:
    read = read_result({"custom_id": "a", "response": response, "error": error})
    assert read == result
    assert read.failed


@pytest.mark.parametrize(
    "line",
    [
        {"custom_id": "a"},
        {"custom_id": "a", "response": {"status_code": 200, "body": None}},
        {"custom_id": 3, "response": ANSWER},
    ],
)
def test_a_line_that_holds_no_result(line: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnclear):
        read_result(line)
