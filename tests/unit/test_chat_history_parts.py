"""The parts of a conversation's messages as each dialect sends them: thoughts, cache marks and files."""

import base64
import json
from typing import Any

import pytest

from manifold.errors import InvalidRequest
from manifold.providers.completion_provider import ProviderRequest
from tests.support.conversations import assistant, body, call, every_front, result, turns, user
from tests.unit.test_chat_translation import DIALECTS, every_dialect, refused, request

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
PDF = base64.b64encode(b"%PDF-1.4").decode()
MARK = {"type": "ephemeral"}
UNSIGNED: list[object] = [[{"type": "thinking", "thinking": "hm"}], [{"type": "thinking", "signature": ""}], "hm", None]


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
    assert "reasoningContent" not in json.dumps(DIALECTS["bedrock"].translate_request(model, request, stream=False))
    claude = DIALECTS["bedrock"].translate_request("eu.anthropic.claude-haiku-4-5-v1:0", request, stream=False)
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
def test_malformed_files_are_refused(provider: str, file_data: object) -> None:
    error = refused(provider, messages=[user([{"type": "file", "file": {"file_data": file_data}}])])
    assert error.param == "messages[0].content[0].file.file_data"


@pytest.mark.parametrize("given", ["image/jpg", "IMAGE/JPG", "image/pjpeg", "image/jpeg", "image/jpeg;charset=utf-8"])
@every_dialect
def test_a_jpeg_by_another_name(provider: str, given: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:{given};base64,/9j/"}}
    sent = json.dumps(turns(provider, [user([picture])]))
    assert "jpeg" in sent
    assert "jpg" not in sent.lower()


def test_a_malformed_message_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidRequest, match="role"):
        request("anthropic", messages=[{"role": "function", "content": "x"}])
