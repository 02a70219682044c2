"""A conversation's turns as each dialect sends them: empty messages, and whose turn is first and last."""

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.support.conversations import (
    FRONT,
    answer_text,
    assistant,
    body,
    call,
    every_front,
    ids,
    result,
    texts,
    turns,
    user,
)
from tests.unit.test_chat_translation import every_dialect, refused

MODELS_SIDE = ("assistant", "model")
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s"}
SILENCES: dict[str, list[dict[str, Any]]] = {
    "assistant ''": [user("one"), assistant(""), user("two")],
    "assistant of white space": [user("one"), assistant(" \n"), user("two")],
    "assistant null": [user("one"), assistant(None), user("two")],
    "assistant without content": [user("one"), {"role": "assistant"}, user("two")],
    "assistant of no parts": [user("one"), assistant([]), user("two")],
    "assistant of blank parts": [user("one"), assistant([{"type": "text", "text": ""}]), user("two")],
    "assistant that thought alone": [
        user("one"),
        assistant("", reasoning_content="hm", thinking_blocks=[SIGNED]),
        user("two"),
    ],
    "assistant twice": [user("one"), assistant(""), assistant(None), user("two")],
    "user ''": [user("one"), assistant("yes"), user(""), assistant(""), user("two")],
    "user null": [user("one"), user(None), user("two")],
    "user of no parts": [user([]), user("one"), assistant("yes"), user("two")],
    "blank parts": [user([{"type": "text", "text": " "}, {"type": "text", "text": "one"}]), user("two")],
    "system ''": [{"role": "system", "content": ""}, user("one"), user("two")],
    "system of white space": [{"role": "system", "content": " \n\t"}, user("one"), user("two")],
    "developer of blank parts": [
        {"role": "developer", "content": [{"type": "text", "text": " "}]},
        user("one"),
        user("two"),
    ],
    "last assistant": [user("one"), assistant("yes"), user("two"), assistant("")],
    "last user beside a result": [
        user("one"),
        assistant("", tool_calls=[call("call_1")]),
        result("call_1", "two"),
        user(" "),
    ],
}  # fmt: skip


@every_dialect
@pytest.mark.parametrize("messages", SILENCES.values(), ids=SILENCES)
def test_empty_messages_are_left_out(provider: str, messages: list[dict[str, Any]]) -> None:
    sent = body(provider, messages)
    assert all(text.strip() for text in texts(sent)), sent
    spoken = turns(provider, messages)
    assert all(parts for _, parts in spoken)
    assert "one" in json.dumps(sent)
    assert "two" in json.dumps(sent)
    if provider in FRONT:
        assert spoken[0][0] == "user"
        assert all(one[0] != other[0] for one, other in pairwise(spoken))
        assert spoken[-1][0] == "user"


@every_front
def test_the_neighbours_of_an_empty_turn_are_joined(provider: str) -> None:
    ((role, parts),) = turns(provider, [user("one"), assistant(""), user("two")])
    assert (role, [part["text"] for part in parts]) == ("user", ["one", "two"])


@every_dialect
@pytest.mark.parametrize("nothing", ["", " ", None, [], [{"type": "text", "text": ""}]])
def test_an_empty_result_is_a_result(provider: str, nothing: object) -> None:
    messages = [user("one"), assistant(nothing, tool_calls=[call("call_1")]), result("call_1", nothing)]
    assert ids(provider, messages) == (["call_1"], ["call_1"])
    assert all(text.strip() for text in texts(turns(provider, messages)[:-1]))


@every_front
def test_an_empty_user_message_is_replaced(provider: str) -> None:
    """Without that turn, the model would continue the assistant's text."""
    spoken = turns(provider, [user("one"), assistant("yes"), user("")])
    assert [role in MODELS_SIDE for role, _ in spoken] == [False, True, False]
    assert [part["text"] for part in spoken[-1][1]] == ["."]


@every_front
def test_an_empty_user_and_an_empty_assistant_message_are_replaced(provider: str) -> None:
    spoken = turns(provider, [user("one"), assistant("yes"), user(""), assistant("")])
    assert [role in MODELS_SIDE for role, _ in spoken] == [False, True, False]


@every_dialect
def test_what_the_system_says_after_the_assistant_is_asked(provider: str) -> None:
    messages = [user("one"), assistant("yes"), {"role": "system", "content": "Now say why."}]
    spoken = turns(provider, messages)
    assert [role in MODELS_SIDE for role, _ in spoken] == [False, True, False]
    assert [part["text"] for part in spoken[-1][1]] == ["Now say why."]


@every_front
def test_a_user_goes_before_the_assistant(provider: str) -> None:
    spoken = turns(provider, [assistant("How can I help?"), user("one")])
    assert [role in MODELS_SIDE for role, _ in spoken] == [False, True, False]


@every_dialect
@pytest.mark.parametrize("silent", [[], [user(" ")], [user([])]])
def test_a_system_alone_is_what_the_model_is_asked(provider: str, silent: list[dict[str, Any]]) -> None:
    messages = [{"role": "system", "content": "Write a haiku."}, *silent]
    ((role, parts),) = turns(provider, messages)
    assert (role, [part["text"] for part in parts]) == ("user", ["Write a haiku."])
    assert not {"system", "systemInstruction"} & body(provider, messages).keys()


@every_dialect
def test_of_several_systems_the_last_is_asked(provider: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Write."}]
    assert turns(provider, messages)[-1][0] == "user"
    assert answer_text(provider, messages)[-1] == "Write."
    assert "Be brief." in json.dumps(body(provider, messages))


@every_dialect
@pytest.mark.parametrize("messages", [[user("")], [user(" "), assistant(None)], [{"role": "system", "content": "\n"}]])
def test_a_conversation_without_content_is_refused(provider: str, messages: list[dict[str, Any]]) -> None:
    error = refused(provider, messages=messages)
    assert (error.status, error.param) == (400, "messages")
    assert "say something" in error.message


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_a_prefilled_answer_ends_without_white_space(provider: str) -> None:
    *_, (role, parts) = turns(provider, [user("one"), assistant("The answer is \n")])
    assert (role, parts[-1]["text"]) == ("assistant", "The answer is")
    assert answer_text(provider, [user("one"), assistant("yes "), user("two")]) == ["one", "yes ", "two"]
