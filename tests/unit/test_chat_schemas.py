"""JSON schemas as they are sent to Claude and to Bedrock."""

import copy
import json
from typing import Any

import pytest

from local.provider.native.json_schemas import check
from local.provider.refusal import Refusal
from manifold.errors import InvalidRequest
from manifold.providers.anthropic import Anthropic
from manifold.providers.anthropic.json_schemas import MAX_DEPTH, strict_schema
from manifold.providers.bedrock import Bedrock
from manifold.providers.cohere import Cohere
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.gemini import Gemini

ITEM = {"type": "object", "properties": {"n": {"type": "integer"}}}
CLOSED = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
HARD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "description": "Years", "minimum": 0, "maximum": 150},
        "size": {"oneOf": [{"type": "number", "multipleOf": 0.5}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^a"}, "minItems": 2, "maxItems": 5},
        "item": {"$ref": "#/$defs/Item"},
    },
    "required": ["age"],
    "$defs": {"Item": ITEM},
}


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (
            {"type": "integer", "minimum": 1, "maximum": 10},
            {"type": "integer", "description": "{minimum: 1, maximum: 10}"},
        ),
        (
            {"type": "number", "description": "D", "exclusiveMaximum": 1.5},
            {"type": "number", "description": "D\n\n{exclusiveMaximum: 1.5}"},
        ),
        (
            {"type": "string", "minLength": 1, "default": None},
            {"type": "string", "description": "{minLength: 1, default: null}"},
        ),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        (
            {"type": "string", "format": "phone", "maxLength": 9},
            {"type": "string", "description": "{maxLength: 9, format: phone}"},
        ),
        ({"type": "array", "items": ITEM, "minItems": 1}, {"type": "array", "items": CLOSED, "minItems": 1}),
        ({"type": "array", "items": ITEM, "minItems": 0}, {"type": "array", "items": CLOSED, "minItems": 0}),
        (
            {"type": "array", "minItems": 2, "maxItems": 3},
            {"type": "array", "description": "{maxItems: 3, minItems: 2}"},
        ),
        ({"oneOf": [ITEM, {"type": "null"}], "title": "T"}, {"anyOf": [CLOSED, {"type": "null"}], "title": "T"}),
        ({"allOf": [ITEM, ITEM]}, {"allOf": [CLOSED, CLOSED]}),
        ({"type": "object"}, {"type": "object", "properties": {}, "additionalProperties": False}),
        (
            {**ITEM, "additionalProperties": {"type": "string"}, "minProperties": 1},
            {**CLOSED, "description": "{minProperties: 1}"},
        ),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}, "additionalProperties": False}),
        (
            {"type": ["string", "null"], "format": "uuid", "maxLength": 9},
            {"type": ["string", "null"], "format": "uuid", "description": "{maxLength: 9}"},
        ),
        ({**ITEM, "type": ["object", "null"]}, {**CLOSED, "type": ["object", "null"]}),
        ({"$ref": "#/$defs/A", "$defs": {"A": ITEM}}, {"$ref": "#/$defs/A", "$defs": {"A": CLOSED}}),
        (
            {"$ref": "#/definitions/A", "definitions": {"A": ITEM}},
            {"$ref": "#/definitions/A", "definitions": {"A": CLOSED}},
        ),
        ({"type": "string", "enum": ["a", None]}, {"enum": ["a", None]}),
        (
            {"type": "object", "enum": [{"a": 1}]},
            {"type": "object", "properties": {}, "additionalProperties": False, "description": '{enum: [{"a":1}]}'},
        ),
        ({"const": 3, "minimum": 1}, {"const": 3, "description": "{minimum: 1}"}),
        ({"type": "array", "items": True}, {"type": "array", "items": True}),
        (
            {**ITEM, "anyOf": [{"required": ["n"]}, {"maxProperties": 0}]},
            {**CLOSED, "description": '{anyOf: [{"required":["n"]},{"maxProperties":0}]}'},
        ),
    ],
)
def test_a_schema_as_claude_takes_it(schema: dict[str, Any], sent: dict[str, Any]) -> None:
    """As `transform_schema` of Anthropic's SDK, which does not have lists of types and members without a type."""
    before = copy.deepcopy(schema)
    assert strict_schema(schema, "response_format") == sent
    assert schema == before


def test_the_members_stay_in_their_order() -> None:
    properties = {name: {"type": "string"} for name in "zebra"}
    assert [*strict_schema({"type": "object", "properties": properties}, "x")["properties"]] == [*"zebra"]


def test_difficult_schemas_are_accepted() -> None:
    with pytest.raises(Refusal):
        check(HARD, "schema")
    check(strict_schema(HARD, "response_format"), "schema")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1},
        {"oneOf": [{"type": "string"}]},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": ITEM}, "additionalProperties": False},
        {"type": "string", "format": "phone"},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        {"enum": [{"a": 1}]},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "array", "items": True},
        {},
    ],
)
def test_the_simulated_claude_refuses_what_the_real_one_does(schema: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        check(schema, "schema")


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def tool(schema: object, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema, **more}}


def sent(dialect: Any, model: str, **body: Any) -> dict[str, Any]:
    request = ProviderRequest("/chat/completions", {"messages": [{"role": "user", "content": "hello"}], **body}, 5.0)
    made: dict[str, Any] = dialect.translate_request(model, request, stream=False)
    return made


def form(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


CLAUDE = [(Anthropic(), "claude-haiku-4-5"), (Bedrock(), "eu.anthropic.claude-haiku-4-5-v1:0")]


@pytest.mark.parametrize(("dialect", "model"), [*CLAUDE, (Bedrock(), "openai.gpt-oss-120b-1:0")])
def test_each_way_to_send_a_schema(dialect: Any, model: str) -> None:
    before, strict = copy.deepcopy(HARD), strict_schema(HARD, "x")
    body = sent(dialect, model, response_format=form(HARD), tools=[tool(HARD, strict=True), tool(HARD)])
    assert before == HARD
    if isinstance(dialect, Anthropic):
        formed = body["output_config"]["format"]["schema"]
        schemas = [one["input_schema"] for one in body["tools"]]
    else:
        formed = json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"])
        schemas = [one["toolSpec"]["inputSchema"]["json"] for one in body["toolConfig"]["tools"]]
    assert (formed, schemas) == (strict, [strict, HARD])


@pytest.mark.parametrize("definitions", ["$defs", "definitions"])
def test_a_tools_arguments_that_are_a_reference(definitions: str) -> None:
    schema = {"$ref": f"#/{definitions}/Item", definitions: {"Item": ITEM}}
    (one,) = sent(Anthropic(), "claude-haiku-4-5", tools=[tool(schema, strict=True)])["tools"]
    assert one["input_schema"] == {**CLOSED, definitions: {"Item": CLOSED}}


@pytest.mark.parametrize(("dialect", "model"), CLAUDE)
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400])
def test_a_schema_that_is_nested_too_deep(dialect: Any, model: str, depth: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(dialect, model, response_format=form(nested(depth)))
    assert caught.value.param == "response_format"
    with pytest.raises(InvalidRequest) as caught:
        sent(dialect, model, tools=[tool(nested(depth), strict=True)])
    assert caught.value.param == "tools[0].function.parameters"
    assert sent(dialect, model, response_format=form(nested(MAX_DEPTH)))


def test_an_example_that_is_nested_too_deep() -> None:
    value: Any = "deep"
    for _ in range(300):
        value = [value]
    with pytest.raises(InvalidRequest):
        strict_schema({"type": "string", "examples": value}, "response_format")


@pytest.mark.parametrize(("dialect", "model"), [*CLAUDE, (Cohere(), "command-a"), (Gemini(), "gemini-3-pro")])
@pytest.mark.parametrize("schema", ["text", [1], 3])
def test_parameters_that_are_no_schema(dialect: Any, model: str, schema: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(dialect, model, tools=[tool(schema)])
    assert caught.value.param == "tools[0].function.parameters"
