"""Tool calls of a conversation as each dialect sends them: arguments, names and ids."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from manifold.errors import InvalidRequest
from tests.support.conversations import answer_text, assistant, body, call, ids, result, user
from tests.unit.test_chat_translation import HELLO, every_dialect


def inputs(sent: object) -> Iterator[dict[str, Any]]:
    """The arguments of each tool call."""
    if isinstance(sent, dict):
        for name, value in sent.items():
            if name in ("input", "args") and isinstance(value, dict):
                yield value
            elif name == "arguments":
                yield json.loads(value)
            else:
                yield from inputs(value)
    elif isinstance(sent, list):
        for one in sent:
            yield from inputs(one)


@every_dialect
@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ('{"city": "Paris"}', {"city": "Paris"}),
        ("", {}),
        (" ", {}),
        (None, {}),
        ("null", {}),
        ({"city": "Paris"}, {"city": "Paris"}),
        ('{"city": "Par', {"unreadable_arguments": '{"city": "Par'}),
        ("[1, 2]", {"unreadable_arguments": "[1, 2]"}),
        ('"Paris"', {"unreadable_arguments": '"Paris"'}),
        ("{'city': 'Paris'}", {"unreadable_arguments": "{'city': 'Paris'}"}),
        ([1], {"unreadable_arguments": "[1]"}),
        (r'{"city": "\ud83d"}', {"city": "\ufffd"}),
    ],
)
def test_arguments_that_are_no_object_are_carried_in_one(provider: str, arguments: object, value: object) -> None:
    messages = [user("one"), assistant(None, tool_calls=[call("call_1", arguments)]), result("call_1")]
    assert list(inputs(body(provider, messages))) == [value]


@every_dialect
def test_arguments_that_are_nested_too_deep_are_refused(provider: str) -> None:
    nested: list[Any] = []
    for _ in range(300):
        nested = [nested]
    messages = [user("one"), assistant(None, tool_calls=[call("call_1", nested)]), result("call_1")]
    with pytest.raises(InvalidRequest) as caught:
        body(provider, messages)
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


@every_dialect
@pytest.mark.parametrize("name", ["", "functions.get weather", "x" * 300])
def test_a_call_of_a_tool_that_there_is_not_goes_on(provider: str, name: str) -> None:
    made = call("call_1") | {"function": {"name": name, "arguments": "{}"}}
    messages = [user("one"), assistant(None, tool_calls=[made]), result("call_1", "no such tool")]
    sent = json.dumps(body(provider, messages))
    expected = (name[:200] or "nameless") if provider != "bedrock" else re.sub("[. ]", "_", name)[:64] or "nameless"
    assert f'"name": "{expected}"' in sent


@every_dialect
def test_an_audio_answer_is_sent_as_its_transcript(provider: str) -> None:
    spoken = assistant(None, audio={"id": "audio_1", "transcript": "Good day."})
    assert "Good day." in answer_text(provider, [user("one"), spoken, user("two")])


FITS_ALL = ("call_1", "toolu_01A-b", "x" * 64)
ODD = ("functions.x:0", "call|1", "", "é", "a b", "chatcmpl-tool/1")


@every_dialect
@pytest.mark.parametrize("known", FITS_ALL)
def test_a_valid_id_stays(provider: str, known: str) -> None:
    messages = [user("one"), assistant(None, tool_calls=[call(known)]), result(known)]
    assert ids(provider, messages) == ([known], [known])


@pytest.mark.parametrize(
    ("provider", "pattern"), [("anthropic", r"^[a-zA-Z0-9_-]+$"), ("bedrock", r"^[a-zA-Z0-9_-]{1,64}$")]
)
@pytest.mark.parametrize("known", [*ODD, "y" * 65 + "!", "z" * 200])
def test_an_id_of_another_provider_is_replaced(provider: str, pattern: str, known: str) -> None:
    messages = [user("one"), assistant(None, tool_calls=[call(known), call("call_2")]), result(known), result("call_2")]
    made, came = ids(provider, messages)
    assert made == came
    assert made[1] == "call_2"
    assert re.match(pattern, made[0])
    assert (made, came) == ids(provider, messages)
    longer = [*messages, user("two"), assistant("", tool_calls=[call("call:3")]), result("call:3")]
    assert ids(provider, longer)[0][:2] == made, "what the provider has cached stays valid"


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_ids_that_differ_stay_different(provider: str) -> None:
    """Also if one id equals the replacement of another."""
    (made,), _ = ids(provider, [user("one"), assistant(None, tool_calls=[call("a:0")]), result("a:0")])
    known = ["a:0", "a.0", "a/0", made]
    messages = [user("one"), assistant(None, tool_calls=list(map(call, known))), *map(result, known)]
    given, came = ids(provider, messages)
    assert given == came
    assert len(set(given)) == len(known)
    assert given[-1] == made, "the one that fits stays"


@every_dialect
def test_ids_that_come_twice(provider: str) -> None:
    """Some servers number calls anew in each turn; each result belongs to the call before it."""
    messages = [
        user("one"),
        assistant(None, tool_calls=[call("call_0")]),
        result("call_0", "first"),
        assistant(None, tool_calls=[call("call_0"), call("call_0")]),
        result("call_0", "second"),
        result("call_0", "third"),
    ]
    made, came = ids(provider, messages)
    assert made == came
    assert made[0] == "call_0"
    assert len(set(made)) == 3


@every_dialect
def test_the_id_of_a_call_without_a_result_is_not_used_again(provider: str) -> None:
    messages = [
        user("one"),
        assistant(None, tool_calls=[call("call_0")]),
        user("never mind"),
        assistant(None, tool_calls=[call("call_0")]),
        result("call_0"),
    ]
    made, came = ids(provider, messages)
    assert came == made[1:]


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "cohere"])
def test_a_result_without_a_call_is_left_to_the_provider(provider: str) -> None:
    assert ids(provider, [*HELLO, result("call_9")]) == ([], ["call_9"])
