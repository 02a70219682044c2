"""Conversations that clients really hold, as each translated provider takes them."""

import base64
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from manifold.errors import InvalidRequest
from manifold.providers.chat import ProviderRequest
from tests.unit.test_chat_translation import DIALECTS, HELLO, every_dialect, refused, request

FRONT = ("anthropic", "bedrock", "gemini")
"""Those whose system speaks apart, and whose sides alternate."""
every_front = pytest.mark.parametrize("provider", FRONT)
MODELS_SIDE = ("assistant", "model")
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOL = {"type": "function", "function": {"name": "weather"}}
PDF = base64.b64encode(b"%PDF-1.4").decode()
MARK = {"type": "ephemeral"}


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: object, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(known: object, arguments: object = "{}", **more: Any) -> dict[str, Any]:
    return {"id": known, "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


def result(known: str, content: object = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": known, "content": content}


def body(provider: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return request(provider, messages=messages, tools=[TOOL], **more)


def turns(provider: str, messages: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Each message's role and parts; Cohere's texts as parts, too."""
    sent = body(provider, messages)
    return [(one["role"], _parts(one)) for one in sent.get("contents") or sent["messages"]]


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("parts", message.get("content")) or []
    parts = [{"text": content}] if isinstance(content, str) else list(content)
    return [*parts, *message.get("tool_calls", ())]


def texts(value: object) -> Iterator[str]:
    """Every text that is said, wherever it stands."""
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from texts(one)


def answer_text(provider: str, messages: list[dict[str, Any]]) -> list[str]:
    return list(texts([parts for _, parts in turns(provider, messages)]))


def inputs(sent: object) -> Iterator[dict[str, Any]]:
    """The arguments of each call, under whatever name."""
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


def ids(provider: str, messages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The ids of the calls, and those of the results."""
    text = json.dumps(body(provider, messages))
    made: list[str] = []
    came: list[str] = []

    def note(found: dict[str, Any]) -> dict[str, Any]:
        if "toolUse" in found or "functionCall" in found:
            use = found.get("toolUse") or found["functionCall"]
            made.append(use.get("toolUseId", use.get("id")))
        elif found.get("type") in ("tool_use", "function") and "id" in found:
            made.append(found["id"])
        for name in ("tool_use_id", "tool_call_id"):
            if name in found:
                came.append(found[name])
        if "toolResult" in found or "functionResponse" in found:
            one = found.get("toolResult") or found["functionResponse"]
            came.append(one.get("toolUseId", one.get("id")))
        return found

    json.loads(text, object_hook=note)
    return made, came


SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s"}
UNSIGNED: list[object] = [[{"type": "thinking", "thinking": "hm"}], [{"type": "thinking", "signature": ""}], "hm", None]

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
def test_what_says_nothing_is_left_out(provider: str, messages: list[dict[str, Any]]) -> None:
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
def test_a_user_who_answers_nothing_is_heard_to(provider: str) -> None:
    """Without that turn, the assistant's words would be the beginning of what the model is to say."""
    spoken = turns(provider, [user("one"), assistant("yes"), user("")])
    assert [role in MODELS_SIDE for role, _ in spoken] == [False, True, False]
    assert [part["text"] for part in spoken[-1][1]] == ["."]


@every_front
def test_a_user_and_an_assistant_who_say_nothing_are_heard_to(provider: str) -> None:
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
def test_nothing_at_all_is_the_callers_to_mend(provider: str, messages: list[dict[str, Any]]) -> None:
    error = refused(provider, messages=messages)
    assert (error.status, error.param) == (400, "messages")
    assert "say something" in error.message


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_what_the_assistant_begins_ends_without_white_space(provider: str) -> None:
    *_, (role, parts) = turns(provider, [user("one"), assistant("The answer is \n")])
    assert (role, parts[-1]["text"]) == ("assistant", "The answer is")
    assert answer_text(provider, [user("one"), assistant("yes "), user("two")]) == ["one", "yes ", "two"]


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
@pytest.mark.parametrize("name", ["", "functions.get weather", "x" * 300])
def test_a_call_of_a_tool_that_there_is_not_goes_on(provider: str, name: str) -> None:
    made = call("call_1") | {"function": {"name": name, "arguments": "{}"}}
    messages = [user("one"), assistant(None, tool_calls=[made]), result("call_1", "no such tool")]
    sent = json.dumps(body(provider, messages))
    expected = (name[:200] or "nameless") if provider != "bedrock" else re.sub("[. ]", "_", name)[:64] or "nameless"
    assert f'"name": "{expected}"' in sent


@every_dialect
def test_what_was_said_aloud_is_said_in_words(provider: str) -> None:
    spoken = assistant(None, audio={"id": "audio_1", "transcript": "Good day."})
    assert "Good day." in answer_text(provider, [user("one"), spoken, user("two")])


FITS_ALL = ("call_1", "toolu_01A-b", "x" * 64)
ODD = ("functions.x:0", "call|1", "", "é", "a b", "chatcmpl-tool/1")


@every_dialect
@pytest.mark.parametrize("known", FITS_ALL)
def test_an_id_that_is_taken_stays(provider: str, known: str) -> None:
    messages = [user("one"), assistant(None, tool_calls=[call(known)]), result(known)]
    assert ids(provider, messages) == ([known], [known])


@pytest.mark.parametrize(
    ("provider", "pattern"), [("anthropic", r"^[a-zA-Z0-9_-]+$"), ("bedrock", r"^[a-zA-Z0-9_-]{1,64}$")]
)
@pytest.mark.parametrize("known", [*ODD, "y" * 65 + "!", "z" * 200])
def test_an_id_of_another_provider_becomes_one_that_is_taken(provider: str, pattern: str, known: str) -> None:
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
    """Also where one is what another would become."""
    (made,), _ = ids(provider, [user("one"), assistant(None, tool_calls=[call("a:0")]), result("a:0")])
    known = ["a:0", "a.0", "a/0", made]
    messages = [user("one"), assistant(None, tool_calls=list(map(call, known))), *map(result, known)]
    given, came = ids(provider, messages)
    assert given == came
    assert len(set(given)) == len(known)
    assert given[-1] == made, "the one that fits stays"


@every_dialect
def test_ids_that_come_twice(provider: str) -> None:
    """Servers there are that begin anew at each turn; each result is of the call before it."""
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
def test_a_call_without_a_result_lends_its_id_to_no_later_one(provider: str) -> None:
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
def test_a_result_without_a_call_is_the_providers_to_refuse(provider: str) -> None:
    assert ids(provider, [*HELLO, result("call_9")]) == ([], ["call_9"])


@pytest.mark.parametrize("blocks", UNSIGNED)
@every_dialect
def test_thoughts_that_nobody_signed_are_not_given_back(provider: str, blocks: object) -> None:
    sent = body(provider, [user("one"), assistant("yes", thinking_blocks=blocks), user("two")])
    assert "hm" not in json.dumps(sent)


@pytest.mark.parametrize("model", ["meta.llama3-3-70b", "us.amazon.nova-pro-v1:0"])
def test_claudes_thoughts_go_to_no_other_model_of_bedrock(model: str) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    messages = [user("one"), assistant("yes", thinking_blocks=[thought]), user("two")]
    request = ProviderRequest("/chat/completions", {"messages": messages}, 5.0)
    assert "reasoningContent" not in json.dumps(DIALECTS["bedrock"].request(model, request, stream=False))
    claude = DIALECTS["bedrock"].request("eu.anthropic.claude-haiku-4-5-v1:0", request, stream=False)
    assert claude["messages"][1]["content"][0]["reasoningContent"]["reasoningText"]["signature"] == "sig"


@pytest.mark.parametrize("extra", [None, "x", {"google": None}, {"google": {"thought_signature": 1}}])
def test_an_odd_signature_of_geminis_is_none(extra: object) -> None:
    messages = [user("one"), assistant(None, tool_calls=[call("call_1", extra_content=extra)]), result("call_1")]
    (_, parts) = turns("gemini", messages)[1]
    assert parts[0]["thoughtSignature"] == "skip_thought_signature_validator"


def test_a_messages_own_mark_is_its_last_parts_for_claude() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be kind", "cache_control": MARK},
        {"role": "user", "content": [{"type": "text", "text": "one"}, PICTURE], "cache_control": MARK},
        assistant(None, tool_calls=[call("call_1"), call("call_2")], cache_control=MARK),
        {**result("call_1"), "cache_control": MARK},
        result("call_2"),
    ]
    sent = body("anthropic", messages)
    assert sent["system"] == [{"type": "text", "text": "be kind", "cache_control": MARK}]
    marked = [[part.get("cache_control") for part in message["content"]] for message in sent["messages"]]
    assert marked == [[None, MARK], [None, MARK], [MARK, None]]

    contents = [message["content"] for message in body("bedrock", messages)["messages"]]
    assert [[next(iter(part)) for part in content] for content in contents] == [
        ["text", "image", "cachePoint"],
        ["toolUse", "toolUse", "cachePoint"],
        ["toolResult", "cachePoint", "toolResult"],
    ]


def test_a_parts_own_mark_goes_before_its_messages() -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    part = {"type": "text", "text": "one", "cache_control": hour}
    sent = body("anthropic", [{"role": "user", "content": [part], "cache_control": MARK}])
    assert sent["messages"][0]["content"][0]["cache_control"] == hour


@pytest.mark.parametrize("provider", ["cohere", "gemini"])
def test_a_messages_own_mark_is_refused_or_dropped(provider: str) -> None:
    messages = [{"role": "user", "content": "one", "cache_control": MARK}]
    assert refused(provider, messages=messages).param == "messages[0].cache_control"
    assert request(provider, drop=True, messages=messages) == request(provider, messages=[user("one")])


def file(data: str = f"data:application/pdf;base64,{PDF}", name: str | None = "A report, v1.2.pdf") -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, **({"filename": name} if name else {})}}


def test_a_pdf() -> None:
    messages = [user([{"type": "text", "text": "read"}, file()])]
    assert turns("anthropic", messages)[0][1][1] == {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
        "title": "A report, v1.2.pdf",
    }
    assert turns("bedrock", messages)[0][1][1] == {
        "document": {"format": "pdf", "name": "A report v1 2 pdf", "source": {"bytes": PDF}}
    }
    assert turns("gemini", messages)[0][1][1] == {"inlineData": {"mimeType": "application/pdf", "data": PDF}}
    assert refused("cohere", messages=messages).param == "messages[0].content[1].file"


@every_front
def test_a_file_without_its_type_is_what_its_name_says(provider: str) -> None:
    for data, name in ((PDF, None), (PDF, "x.pdf"), (f"data:application/pdf;name=x.pdf;base64,{PDF}", None)):
        assert "application/pdf" in json.dumps(turns(provider, [user([file(data, name)])])) or provider == "bedrock"
    assert turns("bedrock", [user([file(PDF, "x.csv")])])[0][1][0]["document"]["format"] == "csv"


@every_front
def test_a_pdf_as_an_image(provider: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:application/pdf;base64,{PDF}"}}
    assert turns(provider, [user([picture])]) == turns(provider, [user([file(name=None)])])


@every_dialect
def test_parts_that_another_model_thought_in_are_left_out(provider: str) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    spoken = [user("one"), assistant([thought, {"type": "text", "text": "yes"}]), user("two")]
    assert "hm" not in json.dumps(body(provider, spoken))
    assert "yes" in json.dumps(body(provider, spoken))
    assert "hm" not in json.dumps(body(provider, [user("one"), assistant([thought]), user("two")]))


def test_bedrock_wants_names_that_differ_and_a_text_beside_documents() -> None:
    ((_, parts),) = turns("bedrock", [user([file(), file(), file(name="  ?? ")])])
    names = [part["document"]["name"] for part in parts if "document" in part]
    assert names == ["A report v1 2 pdf", "A report v1 2 pdf (2)", "document"]
    assert parts[-1] == {"text": ", ".join(names)}
    assert len(turns("bedrock", [user([file(), {"type": "text", "text": "read"}])])[0][1]) == 2


def test_a_text_for_claude() -> None:
    data = base64.b64encode("grüß".encode()).decode()
    ((_, parts),) = turns("anthropic", [user([file(f"data:text/plain;base64,{data}", None)])])
    assert parts[0]["source"] == {"type": "text", "media_type": "text/plain", "data": "grüß"}


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_a_file_of_a_type_that_is_not_taken(provider: str) -> None:
    error = refused(provider, messages=[user([file("data:application/zip;base64,AAAA", None)])])
    assert error.param == "messages[0].content[0].file.file_data"
    assert "application/pdf" in error.message


@pytest.mark.parametrize("file_data", [None, 7, "", "not base64!", "data:application/pdf,plain", "https://x/y.pdf"])
@every_dialect
def test_a_file_that_is_none(provider: str, file_data: object) -> None:
    error = refused(provider, messages=[user([{"type": "file", "file": {"file_data": file_data}}])])
    assert error.param == "messages[0].content[0].file.file_data"


@pytest.mark.parametrize("given", ["image/jpg", "IMAGE/JPG", "image/pjpeg", "image/jpeg", "image/jpeg;charset=utf-8"])
@every_dialect
def test_a_jpeg_by_another_name(provider: str, given: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:{given};base64,/9j/"}}
    sent = json.dumps(turns(provider, [user([picture])]))
    assert "jpeg" in sent
    assert "jpg" not in sent.lower()


def test_who_says_nothing_of_openais_shape_is_told_where() -> None:
    with pytest.raises(InvalidRequest, match="role"):
        request("anthropic", messages=[{"role": "function", "content": "x"}])
