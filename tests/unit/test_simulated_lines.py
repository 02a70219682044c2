"""Contract test of the simulated provider's batch lines: the same answers as to a request with the same body."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from openai.lib._parsing import type_to_response_format_param
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from local.provider.accounts import Account, DialectName
from local.provider.completion_objects import chat_completion, chat_object
from local.provider.completion_requests import parse_chat
from local.provider.lines import answers
from local.provider.openai_lines import OpenAILines

HELLO = [{"role": "user", "content": "the weather in Paris"}]
CLOSED = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CLOSED, "strict": True}}


class Friend(BaseModel):
    name: str
    kind: Literal["near", "far"]


class Person(BaseModel):
    name: str
    age: int | None
    friends: list[Friend]
    parent: "Person | None"
    children: list["Person"]


@pytest.fixture
def line(tmp_path: Path) -> Any:
    """The result of a line with this body: whether it succeeded, and the response."""

    def answered(
        url: str = "/v1/chat/completions", dialect: DialectName = "openai", **body: Any
    ) -> tuple[bool, dict[str, Any]]:
        written = {"custom_id": "one", "method": "POST", "url": url, "body": {"model": "gpt-4.1-mini", **body}}
        path = tmp_path / "input.jsonl"
        path.write_text(json.dumps(written) + "\n")
        shape = OpenAILines(Account("a", dialect, "", frozenset()), url)
        [answer] = answers(path, shape, "batch_1", 1_700_000_000, 1)
        line = json.loads(answer.line)
        assert (line["custom_id"], line["error"]) == ("one", None)
        return answer.succeeded, line["response"]

    return answered


def test_a_model_of_a_structured_client(line: Any) -> None:
    succeeded, response = line(messages=HELLO, response_format=type_to_response_format_param(Person))
    assert (succeeded, response["status_code"]) == (True, 200)
    completion = ChatCompletion.model_validate(response["body"])
    person = Person.model_validate_json(str(completion.choices[0].message.content))
    assert person.friends[0].kind == "near"
    assert person.parent
    assert (person.parent.parent, person.parent.children) == (None, []), "it ends"


@pytest.mark.parametrize("choice", [None, "auto", "required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_is_called(line: Any, choice: object) -> None:
    succeeded, response = line(messages=HELLO, tools=[WEATHER], tool_choice=choice)
    [line_result] = ChatCompletion.model_validate(response["body"]).choices
    assert succeeded
    assert (line_result.finish_reason, line_result.message.content) == ("tool_calls", None)
    assert json.loads(response["body"]["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {
        "city": "the weather in Paris"
    }


def test_no_tool_is_called_if_none_may_be(line: Any) -> None:
    _, response = line(messages=HELLO, tools=[WEATHER], tool_choice="none")
    assert response["body"]["choices"][0]["message"]["content"] == "echo: the weather in Paris"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n": 2, "stop": "in"},
        {"max_completion_tokens": 2},
        {"logprobs": True, "top_logprobs": 1},
        {"response_format": {"type": "json_object"}},
        {"tools": [WEATHER]},
    ],
)
def test_a_line_says_what_a_call_says(line: Any, more: dict[str, Any]) -> None:
    _, response = line(messages=HELLO, **more)
    ask = parse_chat({"model": "gpt-4.1-mini", "messages": HELLO, **more})
    assert _without_marks(response["body"]) == _without_marks(chat_object(ask, chat_completion(ask, "openai")))


def _without_marks(body: dict[str, Any]) -> dict[str, Any]:
    line_result = {name: value for name, value in body.items() if name not in ("id", "created")}
    for choice in line_result["choices"]:
        for call in choice["message"].get("tool_calls", []):
            call["id"] = "call"
    return line_result


def test_the_same_line_is_answered_the_same(line: Any) -> None:
    assert line(messages=HELLO, tools=[WEATHER]) == line(messages=HELLO, tools=[WEATHER])


OPEN = {"type": "object", "properties": {"city": {"type": "string"}}}


def form(schema: object, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True, **more}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": HELLO, "temperature": 3}, "temperature"),
        ({"messages": HELLO, "top_k": 3}, "top_k"),
        ({"messages": HELLO, "tools": []}, "tools"),
        ({"messages": HELLO, "tool_choice": "auto"}, "tool_choice"),
        ({"messages": HELLO, "tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        (
            {
                "messages": HELLO,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": OPEN, "strict": True}}],
            },
            "tools[0].function.parameters",
        ),
        ({"messages": HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"messages": HELLO, "response_format": form(OPEN)}, "response_format"),
        ({"messages": HELLO, "response_format": form({**CLOSED, "required": []})}, "response_format"),
        ({"messages": HELLO, "response_format": form({"type": "array"})}, "response_format"),
        ({"messages": HELLO, "response_format": form({**CLOSED, "allOf": []})}, "response_format"),
        ({"messages": HELLO, "response_format": form(CLOSED, name="a b")}, "response_format.json_schema.name"),
        ({"messages": HELLO, "model": "gpt-5-mini", "temperature": 0.5}, "temperature"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages.[1].role"),
    ],
)
def test_a_line_that_the_api_does_not_take(line: Any, body: dict[str, Any], param: str) -> None:
    succeeded, response = line(**body)
    assert (succeeded, response["status_code"]) == (False, 400)
    assert response["body"]["error"]["param"] == param
    assert response["body"]["error"]["type"] == "invalid_request_error"


def test_a_schema_that_is_not_strict_is_taken_as_it_is(line: Any) -> None:
    succeeded, response = line(messages=HELLO, response_format=form(OPEN, strict=False))
    assert succeeded
    assert json.loads(response["body"]["choices"][0]["message"]["content"]) == {"city": "the weather in Paris"}


def test_content_that_is_filtered(line: Any) -> None:
    messages = [{"role": "user", "content": "filter-this please"}]
    assert line(messages=messages)[1]["body"]["choices"][0]["finish_reason"] == "content_filter"
    succeeded, response = line(dialect="azure", messages=messages)
    assert (succeeded, response["body"]["error"]["code"]) == (False, "content_filter")


def test_responses(line: Any) -> None:
    shaped = {"format": {"type": "json_schema", "name": "city", "schema": CLOSED, "strict": True}}
    _, response = line("/v1/responses", input="Paris", text=shaped, instructions="Be brief.")
    [message] = response["body"]["output"]
    assert json.loads(message["content"][0]["text"]) == {"city": "Paris"}

    tool = {"type": "function", "name": "weather", "parameters": CLOSED, "strict": True}
    _, response = line("/v1/responses", input=HELLO, tools=[tool], tool_choice="required")
    [called] = Response.construct(**response["body"]).output
    assert isinstance(called, ResponseFunctionToolCall)
    assert (called.name, json.loads(called.arguments)) == ("weather", {"city": "the weather in Paris"})

    succeeded, response = line("/v1/responses", input="Paris", response_format=form(CLOSED))
    assert (succeeded, response["body"]["error"]["param"]) == (False, "response_format")


def test_completions_and_embeddings(line: Any) -> None:
    assert line("/v1/completions", prompt="two words", max_tokens=2)[1]["body"]["choices"][0]["text"] == "echo: two"
    assert not line("/v1/completions", messages=HELLO)[0]
    embedded = CreateEmbeddingResponse.model_validate(line("/v1/embeddings", input=["a", "b"], dimensions=4)[1]["body"])
    assert [len(one.embedding) for one in embedded.data] == [4, 4]
    assert not line("/v1/embeddings", prompt="a")[0]
