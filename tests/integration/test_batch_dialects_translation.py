"""What the lines and results of each batch dialect say in OpenAI's terms, both ways, at the simulated provider."""

import base64
import json
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.line_translation import TranslatedResults
from manifold.scrubbing import Scrubber
from tests.support.batch_driver import CHAT, EMBEDDINGS, RESPONSES, BatchDriver, Outcome, dialects
from tests.support.tampering import mutants

pytest_plugins = ("tests.support.batch_driver",)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
MOST = 150
"""Mutants of one line."""

translated = pytest.mark.parametrize("batches", dialects(lambda one: one.translated), indirect=True)


def completion(outcome: Outcome, custom_id: str) -> ChatCompletion:
    return ChatCompletion.model_validate_json(json.dumps(outcome.body(custom_id)), strict=True)


@pytest.mark.parametrize("batches", dialects(lambda one: one.tools and one.route == CHAT), indirect=True)
async def test_a_tool_is_called_and_answered(batches: BatchDriver) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    history = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "Paris"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny there"},
    ]
    choice = {"tool_choice": "required"} if batches.dialect.choices else {}
    lines = [
        batches.line("called", "weather", tools=[WEATHER], max_tokens=100, **choice),
        batches.line("answered", messages=history, tools=[WEATHER]),
        *batches.lines(),
    ]

    outcome = await batches.run(lines)

    called, answered = completion(outcome, "called").choices[0], completion(outcome, "answered").choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls
    (made,) = called.message.tool_calls
    assert made.type == "function"
    assert made.id
    assert made.function.name == "weather"
    assert json.loads(made.function.arguments) == {"city": "weather"}
    assert (answered.finish_reason, answered.message.content) == ("stop", "echo: sunny there")


@pytest.mark.parametrize("batches", dialects(lambda one: one.route == CHAT), indirect=True)
async def test_an_answer_ends_as_the_request_says(batches: BatchDriver) -> None:
    lines = [
        batches.line("cut", "one two three four", max_tokens=3),
        batches.line("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "in parts"}]}]),
        *batches.lines(),
    ]
    if batches.dialect.stops:
        lines.append(batches.line("stopped", "one two three four", stop=["three"], max_tokens=50))

    outcome = await batches.run(lines)

    expected = {
        "cut": ("length", "echo: one two"),
        "stopped": ("stop", "echo: one two "),
        "parts": ("stop", "echo: in parts"),
    }
    for custom_id, (reason, content) in expected.items():
        if custom_id != "stopped" or batches.dialect.stops:
            choice = completion(outcome, custom_id).choices[0]
            assert (choice.finish_reason, choice.message.content) == (reason, content)
    usage = completion(outcome, "cut").usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 3, 7)


@pytest.mark.parametrize("batches", dialects(lambda one: one.schemas and one.route == CHAT), indirect=True)
async def test_an_answer_has_the_schema_of_the_request(batches: BatchDriver) -> None:
    outcome = await batches.run([batches.line("one", "Ada", response_format=JSON_SCHEMA), *batches.lines()])

    content = completion(outcome, "one").choices[0].message.content
    assert content is not None
    assert json.loads(content) == {"name": "Ada"}


@pytest.mark.parametrize("batches", dialects(lambda one: bool(one.embedding_model)), indirect=True)
async def test_embeddings(batches: BatchDriver) -> None:
    batches.use(batches.dialect.embedding_model)
    lines = [
        batches.line("text", "hello there", EMBEDDINGS),
        batches.line("base64", "hello there", EMBEDDINGS, encoding_format="base64"),
        *(batches.line(f"request-{number}", "x", EMBEDDINGS) for number in range(batches.dialect.minimum)),
    ]

    outcome = await batches.run(lines)

    answer = CreateEmbeddingResponse.model_validate_json(json.dumps(outcome.body("text")), strict=True)
    assert [one.index for one in answer.data] == [0]
    assert len(answer.data[0].embedding) > 1
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    if "base64" in outcome.failures:
        assert outcome.error("base64")["param"] == "encoding_format"
    else:
        encoded = outcome.body("base64")["data"][0]["embedding"]
        assert len(base64.b64decode(encoded)) == 4 * len(answer.data[0].embedding)


@pytest.mark.parametrize("batches", dialects(lambda one: one.responses), indirect=True)
async def test_responses(batches: BatchDriver) -> None:
    outcome = await batches.run([batches.line(f"request-{number}", "hello", RESPONSES) for number in range(3)])

    for custom_id in outcome.answers:
        answer = Response.model_validate_json(json.dumps(outcome.body(custom_id)), strict=True)
        assert answer.output_text == "echo: hello"
    assert len(outcome.answers) == 3


@pytest.mark.parametrize("batches", dialects(lambda one: bool(one.untranslatable[0])), indirect=True)
async def test_a_line_that_cannot_be_translated_fails_by_its_parameter(batches: BatchDriver) -> None:
    name, value = batches.dialect.untranslatable
    odd = batches.line("odd")
    odd["body"][name] = value
    lines = [odd, *batches.lines()]

    outcome, dropped = await batches.run(lines), await batches.run(lines, "input_b2", drop_params=True)

    assert set(outcome.failures) == {"odd"}
    assert outcome.failures["odd"]["response"]["status_code"] == 400
    assert outcome.error("odd")["param"] == name
    assert len(outcome.answers) == len(lines) - 1
    assert not dropped.failures
    assert len(dropped.answers) == len(lines)


@translated
async def test_an_odd_request_is_translated_or_a_failed_line(batches: BatchDriver) -> None:
    """No value that a client can send stops the others' translation."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    body = {"messages": messages, "tools": [WEATHER], "tool_choice": "auto", "max_tokens": 5, "stop": ["x"]}
    body |= {"temperature": 0.5, "response_format": JSON_SCHEMA, "n": 1, "user": "u", "seed": 1}
    odd = [parsed for one in mutants(json.dumps(body).encode(), MOST) if isinstance(parsed := _parsed(one), dict)]
    for drop_params in (False, True):
        sent = await batches.written(
            [batches.line(str(number), **one) | {"body": one} for number, one in enumerate(odd)],
            drop_params=drop_params,
        )
        assert sent.data.requests + len(sent.refused) == len(odd)
        assert sent.refused or not batches.dialect.untranslatable[0]
        for line in sent.refused.values():
            assert set(line["response"]["body"]["error"]) == {"message", "type", "param", "code"}


@translated
async def test_an_odd_result_is_a_failed_line_or_none(batches: BatchDriver) -> None:
    """No value that a provider can answer stops the translation of the others' results."""
    sent = await batches.prepare([batches.line("bad", "fail-this-line"), *batches.lines()])
    status = await batches.ended(await batches.submit(sent))
    translator, lines = batches.translator, list[bytes]()
    assert translator is not None
    for named in filter(None, (status.output_ref, status.error_ref)):
        lines += b"".join([chunk async for chunk in batches.provider.results(batches.at, named)]).splitlines()[:3]
    assert len(lines) >= 3
    with CustomIdIndex() as index:
        index.extend(list(sent.custom_ids))
        for mutant in (mutant for line in lines for mutant in mutants(line, MOST)):
            with TranslatedResults(translator, sent.data.id, index, Scrubber()) as results:
                answers = [json.loads(one) async for one in results.answers(_once(mutant))]
                failures = [json.loads(one) async for one in results.failures()]
                assert all(isinstance(one["response"]["body"], dict) for one in answers)
                assert len(answers) + len(failures) + results.invalid <= 1


async def _once(line: bytes) -> Any:
    yield line


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
