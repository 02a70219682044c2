"""Conversations as clients send them are accepted by simulated providers that are as strict as the real ones."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from local.provider import Simulator
from manifold.providers import Endpoint
from manifold.providers.completion_provider import CompletionProvider, ProviderRequest
from manifold.providers.registry import close_providers, completion_provider_for
from tests.support.provider import endpoint
from tests.unit.test_chat_history import SILENCES

pytest_plugins = ("tests.support.provider_fixtures",)

Adapter = tuple[CompletionProvider, Endpoint]
Messages = list[dict[str, Any]]
TRANSLATED = ("anthropic", "bedrock", "cohere", "gemini")
LIKE_OPENAI = ("openai", "azure-general", "mistral")
PREFIXES = {"azure-general": "azure"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PDF = {"file_data": "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4").decode(), "filename": "a_b.pdf"}
THINKING = (
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-opus-4-6"),
    ("cohere", "command-a-03-2025"),
    ("gemini", "gemini-3-pro"),
)
SYSTEM = {"role": "system", "content": "Write a haiku."}


@pytest.fixture(autouse=True)
async def providers_closed() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=(*TRANSLATED, *LIKE_OPENAI))
def adapter(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Adapter:
    return adapter_of(simulated_provider, request.param)


def adapter_of(simulator: Simulator, account: str) -> Adapter:
    return completion_provider_for(PREFIXES.get(account, account)), endpoint(simulator, account)


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def called(known: str, arguments: object = "{}", **more: Any) -> dict[str, Any]:
    call = {"id": known, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call], **more}


def result(known: str, content: object = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": known, "content": content}


async def answer(adapter: Adapter, messages: Messages, **more: Any) -> dict[str, Any]:
    """The message of the answer."""
    provider, at = adapter
    body = {"messages": messages, "tools": [WEATHER], **more}
    completion = await provider.complete(at, ProviderRequest("/chat/completions", body, 5.0))
    message: dict[str, Any] = completion["choices"][0]["message"]
    return message


OPENAI_REFUSES = ("user null", "user of no parts", "assistant of no parts")
OPENAI_TAKES = {name: messages for name, messages in SILENCES.items() if name not in OPENAI_REFUSES}


@pytest.mark.parametrize("account", TRANSLATED)
@pytest.mark.parametrize("messages", SILENCES.values(), ids=SILENCES)
async def test_an_empty_message_is_no_error(simulated_provider: Simulator, account: str, messages: Messages) -> None:
    assert (await answer(adapter_of(simulated_provider, account), messages))["content"].startswith("echo:")


@pytest.mark.parametrize("account", LIKE_OPENAI)
@pytest.mark.parametrize("messages", OPENAI_TAKES.values(), ids=OPENAI_TAKES)
async def test_an_empty_message_is_no_error_at_an_openai_compatible_server(
    simulated_provider: Simulator, account: str, messages: Messages
) -> None:
    assert (await answer(adapter_of(simulated_provider, account), messages))["content"].startswith("echo:")


@pytest.mark.parametrize("first", [*TRANSLATED, "openai"])
async def test_an_empty_answer_is_handed_back(simulated_provider: Simulator, adapter: Adapter, first: str) -> None:
    """The answer of any provider, sent to any other in turn 2."""
    empty = await answer(adapter_of(simulated_provider, first), [user("x")], stop=["echo"], tools=None)
    assert empty["content"] == ""
    assert (await answer(adapter, [user("one"), empty, user("two")]))["content"].endswith("two")


@pytest.mark.parametrize("account", TRANSLATED)
async def test_a_system_alone_is_asked(simulated_provider: Simulator, account: str) -> None:
    assert (await answer(adapter_of(simulated_provider, account), [SYSTEM]))["content"] == "echo: Write a haiku."


@pytest.mark.parametrize("account", ["anthropic", "bedrock"])
async def test_what_the_assistant_begins_may_end_with_space(simulated_provider: Simulator, account: str) -> None:
    messages = [user("one"), {"role": "assistant", "content": "The answer is "}]
    assert (await answer(adapter_of(simulated_provider, account), messages))["content"] == "echo: The answer is"


@pytest.mark.parametrize("arguments", ['{"city": "Par', "", "[1]", "null", '"x"'])
async def test_arguments_that_are_no_object(adapter: Adapter, arguments: str) -> None:
    assert (await answer(adapter, [user("one"), called("call_1", arguments), result("call_1")]))[
        "content"
    ] == "echo: sunny"


@pytest.mark.parametrize("known", ["functions.x:0", "x" * 65, "call|é", ""])
async def test_ids_of_another_provider(adapter: Adapter, known: str) -> None:
    assert (await answer(adapter, [user("one"), called(known), result(known)]))["content"] == "echo: sunny"


async def test_ids_that_come_twice(adapter: Adapter) -> None:
    turn = [called("call_0"), result("call_0")]
    assert (await answer(adapter, [user("one"), *turn, *turn]))["content"] == "echo: sunny"


async def test_an_empty_result(adapter: Adapter) -> None:
    assert (await answer(adapter, [user("one"), called("call_1"), result("call_1", "")]))["content"] is not None


@pytest.mark.parametrize("first", THINKING)
async def test_a_thought_goes_on_at_any_other_provider(
    simulated_provider: Simulator, adapter: Adapter, first: tuple[str, str]
) -> None:
    """A fallback in turn 2 gets the answer of turn 1 as it was."""
    provider, at = adapter_of(simulated_provider, first[0])
    at = replace(at, model=first[1])
    thought = await answer((provider, at), [user("weather")], reasoning_effort="low")
    (call,) = thought["tool_calls"]
    messages = [user("weather"), thought, result(call["id"])]
    assert (await answer(adapter, messages))["content"] == "echo: sunny"


@pytest.mark.parametrize("account", ["anthropic", "bedrock", "gemini"])
@pytest.mark.parametrize("text", [[], [{"type": "text", "text": "read"}]])
async def test_a_pdf(simulated_provider: Simulator, account: str, text: Messages) -> None:
    part = {"type": "file", "file": PDF}
    reply = await answer(adapter_of(simulated_provider, account), [user([*text, part, part])])
    assert reply["content"].startswith("echo:")


@pytest.mark.parametrize("account", TRANSLATED)
async def test_a_jpeg_by_another_name(simulated_provider: Simulator, account: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/"}}
    assert (await answer(adapter_of(simulated_provider, account), [user([picture])]))["content"].startswith("echo:")


async def test_a_messages_own_mark(simulated_provider: Simulator) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    messages = [SYSTEM | mark, user("one") | mark, called("call_1") | mark, result("call_1") | mark]
    for account in ("anthropic", "bedrock", *LIKE_OPENAI):
        assert (await answer(adapter_of(simulated_provider, account), messages))["content"] is not None


async def test_half_an_emoji_reaches_every_provider(adapter: Adapter) -> None:
    assert (await answer(adapter, [user("cut \ufffd")]))["content"] == "echo: cut \ufffd"


@pytest.mark.parametrize("account", TRANSLATED)
@pytest.mark.parametrize("name", ["", "functions.get weather", "x" * 300])
async def test_a_call_of_a_tool_that_there_is_not(simulated_provider: Simulator, account: str, name: str) -> None:
    made = called("call_1")
    made["tool_calls"][0]["function"]["name"] = name
    messages = [user("one"), made, result("call_1", "no such tool"), user("go on")]
    assert (await answer(adapter_of(simulated_provider, account), messages, tools=[]))["content"].startswith("echo:")
