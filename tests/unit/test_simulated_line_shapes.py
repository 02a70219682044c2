"""Contract test of the shapes of the simulated provider's lines: each is answered, refused and left unanswered, and
each defect of a result line finds its place in it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from local.provider.accounts import BEDROCK_MODEL, Account, DialectName
from local.provider.defects import Defects, Text
from local.provider.line_faults import LineFault, LineFaults
from local.provider.line_shape import LineShape, Unanswered
from local.provider.lines import answers, unanswered
from local.provider.native.anthropic_batches import AnthropicLines
from local.provider.native.bedrock_lines import BedrockLines
from local.provider.native.cohere_rows import CHAT as COHERE_CHAT
from local.provider.native.cohere_rows import CohereRows
from local.provider.native.fireworks_lines import FireworksLines, InferenceParameters
from local.provider.native.gemini_lines import GeminiLines
from local.provider.native.mistral_lines import MistralLines
from local.provider.native.openrouter_lines import OpenRouterLines
from local.provider.native.together_ai import TogetherLines
from local.provider.native.variants import Variants
from local.provider.native.vertex_lines import VertexLines
from local.provider.openai_lines import OpenAILines

CHAT = "/v1/chat/completions"
MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}]}
BLOCKS: dict[str, Any] = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello there"}]}]}


def account(dialect: DialectName, model: str) -> Account:
    return Account("a", dialect, "", frozenset({model}))


SHAPES: dict[str, tuple[LineShape, dict[str, Any]]] = {
    "openai": (
        OpenAILines(account("openai", "gpt"), CHAT),
        {"custom_id": "one", "method": "POST", "url": CHAT, "body": {"model": "gpt", **MESSAGES}},
    ),
    "anthropic": (
        AnthropicLines(account("anthropic", "claude-haiku-4-5")),
        {"custom_id": "one", "params": {"model": "claude-haiku-4-5", "max_tokens": 9, **BLOCKS}},
    ),
    "bedrock": (
        BedrockLines(BEDROCK_MODEL, "Converse", late_as_errors=True, too_few=None),
        {"recordId": "one", "modelInput": CONVERSE},
    ),
    "cohere": (CohereRows(COHERE_CHAT, "command"), {"custom_id": "one", "body": BLOCKS}),
    "fireworks": (FireworksLines("llama", InferenceParameters()), {"custom_id": "one", "body": MESSAGES}),
    "gemini": (
        GeminiLines("gemini-2.5-flash", Variants(), embeds=False),
        {"key": "one", "request": {"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]}},
    ),
    "mistral": (MistralLines(CHAT, "mistral-small-latest"), {"custom_id": "one", "body": MESSAGES}),
    "openrouter": (
        OpenRouterLines(account("openrouter", "gpt"), CHAT, "gpt"),
        {"custom_id": "one", "body": MESSAGES},
    ),
    "together": (TogetherLines("qwen"), {"custom_id": "one", "body": {"model": "qwen", **MESSAGES}}),
    "vertex-claude": (
        VertexLines("claude-haiku-4-5", late_as_errors=True),
        {
            "custom_id": "one",
            "request": {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, **BLOCKS},
        },
    ),
}


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest, tmp_path: Path) -> LineShape:
    shape, line = SHAPES[request.param]
    (tmp_path / "input.jsonl").write_text(json.dumps(line) + "\n")
    return shape


def result(shape: LineShape, tmp_path: Path, fault: LineFault | None = None) -> tuple[bool, bytes]:
    faults = LineFaults(fault, Counter()) if fault else None
    [answer] = answers(tmp_path / "input.jsonl", shape, "batch_1", 1_700_000_000, 1, faults)
    assert answer.line.endswith(b"\n")
    assert shape.marks.id + b'one"' in answer.line
    assert (answer.input_tokens, answer.output_tokens) == ((2, 3) if answer.succeeded else (0, 0))
    return answer.succeeded, answer.line


def test_a_line_is_answered_always_the_same(shape: LineShape, tmp_path: Path) -> None:
    request = shape.read((tmp_path / "input.jsonl").read_bytes())
    assert (request.id, list(shape.problems(request))) == ("one", [])
    succeeded, line = result(shape, tmp_path)
    assert succeeded
    assert b"echo: hello there" in line
    assert result(shape, tmp_path) == (succeeded, line)


@pytest.mark.parametrize("status", [429, 500, None])
def test_a_line_fails(shape: LineShape, tmp_path: Path, status: int | None) -> None:
    succeeded, line = result(shape, tmp_path, LineFault(status=status, message="It was too much."))
    assert not succeeded
    assert b"It was too much." in line
    assert b"echo" not in line


def test_a_line_that_ran_out_of_time_has_no_answer(shape: LineShape, tmp_path: Path) -> None:
    why = Unanswered("batch_expired", "Too late.")
    [line] = unanswered(tmp_path / "input.jsonl", shape, "batch_1", 1_700_000_000, 0, why)
    assert shape.marks.id + b'one"' in line
    assert b"echo" not in line


@pytest.mark.parametrize("text", get_args(Text))
def test_a_defect_is_put_into_the_answer(shape: LineShape, tmp_path: Path, text: Text) -> None:
    _, line = result(shape, tmp_path)
    defective = Defects(text=text).written(line, shape.marks)
    if text == "escaped_key" and b'"model":' not in line:
        assert defective == line, "an answer that does not name its model"
        return
    assert defective != line
    start = next(at for at, (one, other) in enumerate(zip(line, defective, strict=False)) if one != other)
    assert start > line.index(shape.marks.response), "within the response, and not the request beside it"


def test_ids_are_wrong_missing_or_repeated(shape: LineShape, tmp_path: Path) -> None:
    _, line = result(shape, tmp_path)
    misnamed, anonymous = (
        defects.written(line, shape.marks) for defects in (Defects(misnamed=1), Defects(anonymous=1))
    )
    assert shape.marks.id + b'no-request-one"' in misnamed
    assert shape.marks.id not in anonymous
    json.loads(misnamed), json.loads(anonymous)
    assert Defects(repeated=1).written(line, shape.marks) == line * 2
    assert Defects(missing=1).written(line, shape.marks) == b""
