"""Answers of other providers in a conversation, as they are sent to an OpenAI-compatible server."""

from typing import Any

import pytest

from manifold.providers.openai.messages import MessageSanitizer

OPENAI_MEMBERS = {"role", "content", "refusal", "name", "audio", "tool_calls", "function_call"}
"""Of `ChatCompletionAssistantMessageParam`."""
BASE = "https://models.example.com/v1"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": ""}
CLAUDES = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}}],
    "reasoning_content": "hm",
    "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}],
    "provider_specific_fields": {"citations": None},
}


def user(content: object, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: object = None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def sent_messages(messages: object, provider: str = "openai", base_url: str = BASE, **more: Any) -> Any:
    return MessageSanitizer(provider, base_url).body({"messages": messages, **more})["messages"]


@pytest.mark.parametrize("provider", ["openai", "azure", "groq", "mistral", "cerebras", "together_ai", "some_server"])
def test_claudes_own_fields_are_removed_from_history(provider: str) -> None:
    messages = [user("the weather"), CLAUDES, RESULT]
    _, answer, result = sent_messages(messages, provider)
    assert answer.keys() <= OPENAI_MEMBERS
    (call,) = answer["tool_calls"]
    assert call.keys() == {"id", "type", "function"}
    assert call["function"] == CALL["function"], "arguments pass untouched, those that were cut off, too"
    assert result["content"] == ""
    assert "thinking_blocks" in CLAUDES, "the client's request is the next attempt's, too"


@pytest.mark.parametrize(
    ("provider", "base_url", "member"),
    [
        ("deepseek", "https://api.deepseek.com", "reasoning_content"),
        ("openai", "https://api.deepseek.com/v1", "reasoning_content"),
        ("openai", "https://api.moonshot.ai/v1", "reasoning_content"),
        ("hosted_vllm", BASE, "reasoning_content"),
        ("xai", "https://api.x.ai/v1", "reasoning_content"),
        ("litellm_proxy", BASE, "thinking_blocks"),
        ("litellm_proxy", BASE, "provider_specific_fields"),
    ],
)
def test_thoughts_are_sent_to_servers_that_take_them(provider: str, base_url: str, member: str) -> None:
    (_, answer, _) = sent_messages([user("one"), CLAUDES, RESULT], provider, base_url)
    assert answer[member] == CLAUDES[member]


def test_googles_own_endpoint_gets_its_signatures() -> None:
    base = "https://generativelanguage.googleapis.com/v1beta/openai"
    assert "extra_content" in sent_messages([user("one"), CLAUDES, RESULT], "openai", base)[1]["tool_calls"][0]


@pytest.mark.parametrize("member", ["prefix", "partial", "x_trace"])
def test_what_a_client_added_passes(member: str) -> None:
    messages = [user("one", **{member: True}), assistant("yes", **{member: True})]
    assert sent_messages(messages) == messages


@pytest.mark.parametrize(("provider", "passes"), [("openai", False), ("groq", False), ("openrouter", True)])
def test_marks_of_claudes_cache_go_to_those_that_take_them(provider: str, passes: bool) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    messages = [user([{"type": "text", "text": "one", **mark}], **mark), {**RESULT, **mark}]
    tools = [{"type": "function", "function": {"name": "weather"}, **mark}]
    body = MessageSanitizer(provider, BASE).body({"messages": messages, "tools": tools})
    assert ("cache_control" in str(body)) is passes
    if passes:
        assert body == {"messages": messages, "tools": tools}


@pytest.mark.parametrize("member", ["refusal", "audio", "function_call", "tool_calls", "annotations"])
@pytest.mark.parametrize("nothing", [None, []])
def test_empty_fields_of_an_answer_are_removed(member: str, nothing: object) -> None:
    assert sent_messages([user("one"), assistant("yes", **{member: nothing}), user("two")])[1] == assistant("yes")


@pytest.mark.parametrize("silent", [None, "", [], [{"type": "text", "text": ""}], [{"type": "text", "text": None}]])
def test_an_empty_answer_is_left_out(silent: object) -> None:
    """Mistral, xAI and Moonshot refuse it. The user messages around it are joined, as some models require."""
    messages = [user("one"), assistant(silent, refusal=None), user("two")]
    assert sent_messages(messages, "mistral") == [user("one\n\ntwo")]


def test_users_of_parts_are_joined_to_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    joined = sent_messages([user("one"), assistant(""), user([picture])])
    assert joined == [user([{"type": "text", "text": "one"}, picture])]


def test_users_who_were_neighbours_anyway_stay_apart() -> None:
    messages = [user("one"), user("two"), assistant("yes"), user("three", name="Ann"), assistant(), user("four")]
    assert sent_messages(messages) == [*messages[:4], messages[5]]


@pytest.mark.parametrize(
    "answer",
    [
        assistant(tool_calls=[CALL]),
        assistant(refusal="No."),
        assistant(audio={"id": "audio_1"}),
        assistant("", prefix=True),
        {"role": "assistant", "tool_calls": [CALL]},
    ],
)
def test_an_answer_with_other_content_stays(answer: dict[str, Any]) -> None:
    assert sent_messages([user("one"), answer, RESULT]) == [user("one"), answer, RESULT]


@pytest.mark.parametrize(("transcript", "content"), [("Good day.", "Good day."), (None, "")])
def test_an_audio_answer_is_sent_as_its_transcript_to_servers_without_audio(
    transcript: str | None, content: str
) -> None:
    reply = assistant(audio={"id": "audio_1", "data": "UklG", "transcript": transcript}, tool_calls=[])
    (_, prefixed, _) = sent_messages([user("one"), {**reply, "prefix": True}, user("two")], "mistral")
    assert prefixed == assistant(content, prefix=True)


def test_content_that_must_be_there_is_empty() -> None:
    assert sent_messages([assistant()]) == [assistant("")]
    (_, thought, _) = sent_messages([user("one"), assistant(reasoning_content="hm"), user("two")], "deepseek")
    assert thought == assistant("", reasoning_content="hm")


@pytest.mark.parametrize("messages", [None, "hello", ["hello"], [None]])
def test_a_malformed_message_is_left_to_the_server(messages: object) -> None:
    assert sent_messages(messages) == messages


@pytest.mark.parametrize("calls", ["x", [None], [{"id": 1}], {"id": "call_1"}])
def test_malformed_tool_calls_are_left_to_the_server(calls: object) -> None:
    for provider in ("openai", "mistral"):
        assert sent_messages([user("one"), assistant("x", tool_calls=calls)], provider)[1]["tool_calls"] == calls


@pytest.mark.parametrize(
    ("provider", "base_url", "known", "fits"),
    [
        ("openai", "https://api.openai.com/v1", "x" * 40, True),
        ("openai", "https://api.openai.com/v1", "x" * 41, False),
        ("azure", "https://r.openai.azure.com", "x" * 41, False),
        ("openai", "https://api.openai.com/v1", "functions.x:0", True),
        ("mistral", "https://api.mistral.ai/v1", "a1B2c3D4e", True),
        ("mistral", "https://api.mistral.ai/v1", "call_abcd", False),
        ("openai", "https://api.mistral.ai/v1", "toolu_01AbC", False),
        ("groq", "https://api.groq.com/openai/v1", "x" * 200, True),
    ],
)
def test_ids_are_those_that_the_server_takes(provider: str, base_url: str, known: str, fits: bool) -> None:
    messages = [user("one"), assistant(tool_calls=[{**CALL, "id": known}]), {**RESULT, "tool_call_id": known}]
    _, answer, result = sent_messages(messages, provider, base_url)
    made = answer["tool_calls"][0]["id"]
    assert result["tool_call_id"] == made
    assert (made == known) is fits
    if not fits and "mistral" in base_url:
        assert len(made) == 9
        assert made.isalnum()
    assert len(made) <= 40 or provider == "groq"


def test_ids_that_a_server_takes_twice_stay() -> None:
    turn = [assistant(tool_calls=[CALL]), RESULT]
    assert sent_messages([user("one"), *turn, *turn]) == [user("one"), *turn, *turn]


@pytest.mark.parametrize(("provider", "content"), [("openai", None), ("mistral", "I cannot."), ("groq", "I cannot.")])
def test_a_refusal_is_sent_as_text_to_a_server_without_refusals(provider: str, content: object) -> None:
    (_, answer, _) = sent_messages([user("one"), assistant(refusal="I cannot."), user("two")], provider)
    assert answer["content"] == content
    assert ("refusal" in answer) is (content is None)

    part = {"type": "refusal", "refusal": "I cannot."}
    (_, answer, _) = sent_messages([user("one"), assistant([part]), user("two")], provider)
    assert answer["content"] == [part if content is None else {"type": "text", "text": content}]


@pytest.mark.parametrize(("provider", "kept"), [("openai", ["text"]), ("mistral", ["thinking", "text"])])
def test_parts_that_a_model_thought_in_go_to_who_takes_them(provider: str, kept: list[str]) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    messages = [user("one"), assistant([thought, {"type": "text", "text": "yes"}]), user("two")]
    assert [part["type"] for part in sent_messages(messages, provider)[1]["content"]] == kept
    alone = [user("one"), assistant([thought]), user("two")]
    assert len(sent_messages(alone, provider)) == (1 if provider == "openai" else 3)
