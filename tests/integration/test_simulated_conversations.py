"""Contract test of the simulated providers: they refuse the conversations that the real ones refuse."""

from typing import Any

import httpx
import pytest

from local.provider import Simulator
from local.provider.accounts import BEDROCK_MODEL

pytest_plugins = ("tests.support.provider_fixtures",)

Body = dict[str, Any]


def post(simulator: Simulator, account: str, body: Body) -> tuple[int, str]:
    known = simulator.state.accounts[account]
    base = simulator.base(account)
    key = known.key
    path, headers = {
        "anthropic": ("/v1/messages", {"x-api-key": key, "anthropic-version": "2023-06-01"}),
        "bedrock": (f"/model/{BEDROCK_MODEL}/converse", {"authorization": f"Bearer {key}"}),
        "cohere": ("/v2/chat", {"authorization": f"Bearer {key}"}),
        "gemini": ("/v1beta/models/gemini-2.5-flash:generateContent", {"x-goog-api-key": key}),
        "mistral": ("/chat/completions", {"authorization": f"Bearer {key}"}),
        "openai": ("/chat/completions", {"authorization": f"Bearer {key}"}),
    }[account]
    spec = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}
    wholes: dict[str, Body] = {
        "anthropic": {"model": "claude-haiku-4-5", "max_tokens": 9},
        "bedrock": {"toolConfig": {"tools": [spec]}},
        "cohere": {"model": known.chat_model, "stream": False},
        "gemini": {},
    }
    whole = wholes.get(account, {"model": known.chat_model})
    answer = httpx.post(base + path, json={**whole, **body}, headers=headers, timeout=10)
    return answer.status_code, answer.text


def text(role: str, content: str) -> Body:
    return {"role": role, "content": [{"type": "text", "text": content}]}


def tool_use(known: str, value: object = None) -> Body:
    block = {"type": "tool_use", "id": known, "name": "f", "input": {} if value is None else value}
    return {"role": "assistant", "content": [block]}


def used(known: str) -> Body:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": known, "content": []}]}


ONE, TWO = text("user", "one"), text("user", "two")
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": "x"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([ONE, {"role": "assistant", "content": ""}, TWO], "non-whitespace"),
        ([ONE, {"role": "assistant", "content": []}, TWO], "at least 1 item"),
        ([ONE, text("assistant", " "), TWO], "non-whitespace"),
        ([ONE, text("assistant", "yes ")], "trailing whitespace"),
        ([ONE, {"role": "assistant", "content": [THOUGHT]}, TWO], "final block"),
        ([ONE, {"role": "assistant", "content": [THOUGHT | {"signature": ""}]}, TWO], "signature"),
        ([text("assistant", "hi"), TWO], "first message"),
        ([ONE, tool_use("functions.f:0"), used("functions.f:0")], "should match pattern"),
        ([ONE, tool_use("a", "{"), used("a")], "valid dictionary"),
        ([ONE, tool_use("a"), used("a"), tool_use("a"), used("a")], "unique"),
        ([ONE, tool_use("a"), used("b")], "without `tool_result`"),
        ([used("b")], "unexpected `tool_use_id`"),
        ([{"role": "user", "content": [{"type": "text", "text": "one", "name": "x"}]}], "Extra inputs"),
        ([{**ONE, "cache_control": {"type": "ephemeral"}}], "Extra inputs"),
        ([{"role": "user", "content": [PICTURE]}], "image/jpeg"),
    ],
)
def test_conversations_that_anthropic_refuses(simulated_provider: Simulator, messages: list[Body], words: str) -> None:
    status, message = post(simulated_provider, "anthropic", {"messages": messages})
    assert (status, words in message) == (400, True), message


def test_system_prompts_that_anthropic_refuses(simulated_provider: Simulator) -> None:
    body = {"messages": [ONE], "system": [{"type": "text", "text": " "}]}
    assert post(simulated_provider, "anthropic", body)[0] == 400


def say(role: str, *blocks: Body) -> Body:
    return {"role": role, "content": list(blocks)}


def document(name: str) -> Body:
    return {"document": {"format": "pdf", "name": name, "source": {"bytes": "JVBERg=="}}}


ASK = say("user", {"text": "one"})


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([ASK, say("assistant"), ASK], "is empty"),
        ([ASK, say("assistant", {"text": " "}), ASK], "blank"),
        ([ASK, ASK], "alternate"),
        ([ASK, say("assistant", {"text": "yes "})], "trailing whitespace"),
        ([say("user", document("a"))], "text field"),
        ([say("user", {"text": "read"}, document("a.b"))], "alphanumeric"),
        ([say("user", {"text": "read"}, document("a"), document("a"))], "differ"),
        (
            [
                ASK,
                say("assistant", {"toolUse": {"toolUseId": "x" * 65, "name": "f", "input": {}}}),
                say("user", {"toolResult": {"toolUseId": "x" * 65, "content": [{"json": {}}]}}),
            ],
            "pattern",
        ),
        ([say("user", {"toolResult": {"toolUseId": "a", "content": [{"json": {}}]}})], "exceeds"),
    ],
)
def test_conversations_that_bedrock_refuses(simulated_provider: Simulator, messages: list[Body], words: str) -> None:
    status, message = post(simulated_provider, "bedrock", {"messages": messages})
    assert (status, words in message) == (400, True), message


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ([{"role": "user", "parts": []}], "at least 1 item"),
        ([{"role": "user", "parts": [{"text": ""}]}], "oneof"),
        ([{"role": "user", "parts": [{"inlineData": {"mimeType": "image/jpg", "data": "x"}}]}], "pattern"),
        ([{"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}], "after a user turn"),
        ([{"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}], "number of function"),
        ([{"role": "user", "parts": [{"text": "one", "cacheControl": {}}]}], "Extra inputs"),
    ],
)
def test_conversations_that_gemini_refuses(simulated_provider: Simulator, contents: list[Body], words: str) -> None:
    status, message = post(simulated_provider, "gemini", {"contents": contents})
    assert (status, words in message) == (400, True), message


def call(known: str, arguments: str = "{}") -> Body:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": known, "type": "function", "function": function}]}


def came(known: str) -> Body:
    return {"role": "tool", "tool_call_id": known, "content": "x"}


PLAIN = {"role": "user", "content": "one"}


@pytest.mark.parametrize(
    ("account", "messages", "words"),
    [
        ("cohere", [PLAIN, {"role": "assistant", "content": ""}, PLAIN], "1 token long"),
        ("cohere", [PLAIN, call("a", "{"), came("a")], "arguments"),
        ("cohere", [PLAIN, call("a", "[]"), came("a")], "JSON object"),
        ("openai", [PLAIN, {"role": "assistant", "content": None}, PLAIN], "got null"),
        ("openai", [PLAIN, {"role": "assistant", "content": "x", "thinking_blocks": []}], "Unknown parameter"),
        ("openai", [PLAIN, {"role": "assistant", "content": "x", "tool_calls": []}], "tool_calls"),
        ("openai", [PLAIN, call("x" * 41), came("x" * 41)], "at most 40"),
        ("mistral", [PLAIN, {"role": "assistant", "content": ""}, PLAIN], "but not none"),
        ("mistral", [PLAIN, {"role": "assistant", "content": "x", "refusal": None}, PLAIN], "Unknown parameter"),
        ("mistral", [PLAIN, call("call_abcd"), came("call_abcd")], "pattern"),
    ],
)
def test_conversations_that_cohere_and_mistral_refuse(
    simulated_provider: Simulator, account: str, messages: list[Body], words: str
) -> None:
    status, message = post(simulated_provider, account, {"messages": messages})
    assert (status, words in message) == (400, True), message
