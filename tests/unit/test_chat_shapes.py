"""Each provider's dialect against its documented shapes, both ways (`tests/shapes`)."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from manifold.errors import ProviderRefused
from manifold.provider_errors import client_error
from manifold.providers.anthropic import Anthropic
from manifold.providers.bedrock import Bedrock
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.cohere import Cohere
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.dialect import Dialect, translate_refusal
from manifold.providers.failures import failure
from manifold.providers.gemini import Gemini
from manifold.providers.http_call import HttpCall

SHAPES = Path(__file__).parents[1] / "shapes"
DIALECTS: Mapping[str, Dialect] = {
    "anthropic": Anthropic(),
    "bedrock": Bedrock(),
    "cohere": Cohere(),
    "gemini": Gemini(),
}
MODEL = "the-model"
CREATED = 1_700_000_000


def shapes(kind: str) -> list[Any]:
    files = sorted(SHAPES.glob(f"*/{kind}/*.json"))
    return [pytest.param(file, id=f"{file.parts[-3]}-{file.stem}") for file in files]


def read(file: Path) -> tuple[Dialect, dict[str, Any]]:
    return DIALECTS[file.parts[-3]], json.loads(file.read_text())


def merged(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The message that a client builds from the chunks of one choice."""
    message: dict[str, Any] = {"refusal": None}
    whole: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": None}
    for chunk in chunks:
        for choice in chunk["choices"]:
            whole["finish_reason"] = choice["finish_reason"] or whole["finish_reason"]
            add(message, choice["delta"])
    return whole


def add(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, more in delta.items():
        if name == "tool_calls":
            add_calls(message.setdefault("tool_calls", []), more)
        elif message.get(name) is None or name == "role":
            message[name] = more
        elif more is not None:
            message[name] += more


def add_calls(calls: list[dict[str, Any]], more: Iterable[Mapping[str, Any]]) -> None:
    for call in more:
        if call["index"] == len(calls):
            calls.append({name: value for name, value in call.items() if name != "index"})
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]


@pytest.mark.parametrize("file", shapes("requests"))
def test_a_request(file: Path) -> None:
    dialect, shape = read(file)
    body = dialect.translate_request(
        shape["model"], ProviderRequest("/chat/completions", shape["request"], 5.0), stream=False
    )
    body.pop("stream", None)
    assert body == shape["body"]


@pytest.mark.parametrize("file", shapes("answers"))
def test_an_answer(file: Path) -> None:
    dialect, shape = read(file)
    completion = dialect.translate_response(shape["answer"], MODEL, CREATED)

    ChatCompletion.model_validate(completion)
    assert (completion.pop("object"), completion.pop("created")) == ("chat.completion", CREATED)
    if "id" not in shape["completion"]:
        assert completion.pop("id").startswith("chatcmpl-")
    assert completion == shape["completion"]


@pytest.mark.parametrize("file", shapes("streams"))
def test_a_stream(file: Path) -> None:
    dialect, shape = read(file)
    reader = dialect.reader(ChunkBuilder(MODEL, CREATED, with_usage=True))
    chunks = [chunk for name, event in shape["events"] for chunk in reader.read(name, event)] + reader.close()

    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    expected = shape["completion"]
    assert reader.ended
    assert merged(chunks) == expected["choices"][0]
    assert [chunk["usage"] for chunk in chunks] == [None] * (len(chunks) - 1) + [expected["usage"]]
    assert {chunk["model"] for chunk in chunks} == {expected["model"]}
    assert {chunk["id"] for chunk in chunks} == {expected.get("id", chunks[0]["id"])}


@pytest.mark.parametrize("file", shapes("streams"))
def test_a_stream_without_its_end(file: Path) -> None:
    dialect, shape = read(file)
    reader = dialect.reader(ChunkBuilder(MODEL, CREATED, with_usage=False))
    chunks = [chunk for name, event in shape["events"][:-1] for chunk in reader.read(name, event)] + reader.close()
    assert not reader.ended
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize("file", shapes("errors"))
def test_an_error(file: Path) -> None:
    dialect, shape = read(file)
    call = HttpCall("https://example.com", {}, {}, 5.0)
    error = failure(shape["status"], shape["headers"], json.dumps(shape["body"]).encode(), call)
    outcome = client_error(
        translate_refusal(error, dialect.refusal_rules) if isinstance(error, ProviderRefused) else error
    )
    assert [outcome.status, outcome.type, outcome.code] == shape["error"]


@pytest.mark.parametrize("provider", DIALECTS)
def test_every_provider_has_shapes_of_every_kind(provider: str) -> None:
    for kind in ("requests", "answers", "streams", "errors"):
        assert list((SHAPES / provider / kind).glob("*.json"))
