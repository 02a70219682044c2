"""What Converse takes for a conversation beyond what botocore checks: the documentation's words and Claude's own rules.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html, …_ContentBlock, …_DocumentBlock
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from local.provider.refusal import Refusal

Object = Mapping[str, Any]

NO_TOOLS = "The toolConfig field must be defined when using toolUse and toolResult content blocks."
TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Claude's own; `ToolUseId` allows `.` and `:`, too."""
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DOCUMENT_NAME = re.compile(r"[a-zA-Z0-9\-()\[\]]+(?:\s[a-zA-Z0-9\-()\[\]]+)*")
LONGEST_NAME = 200


def check_messages(body: Object) -> None:
    messages = body.get("messages") or []
    if not messages or messages[0]["role"] != "user":
        raise Refusal(400, None, "A conversation must start with a user message.")
    if any(one["role"] == other["role"] for one, other in pairwise(messages)):
        raise Refusal(400, None, "A conversation must alternate between user and assistant roles.")
    for index, message in enumerate(messages):
        _check_content(index, message)
    blocks = [block for message in messages for block in message["content"]]
    if any("toolUse" in block or "toolResult" in block for block in blocks) and "toolConfig" not in body:
        raise Refusal(400, None, NO_TOOLS)
    if any(_is_blank(block) for block in [*blocks, *_inner(blocks), *(body.get("system") or ())]):
        raise Refusal(400, None, "The text field in the ContentBlock object is blank.")
    if not all(TOOL_NAME.fullmatch(block["toolUse"]["name"]) for block in blocks if "toolUse" in block):
        raise Refusal(400, None, "Value at 'toolUse.name' failed to satisfy constraint: [a-zA-Z0-9_-]+, at most 64")
    _check_ids(messages)
    _check_end(messages[-1])


def _check_content(index: int, message: Object) -> None:
    content = message["content"]
    if not content:
        raise Refusal(400, None, f"The content field in the Message object at messages.{index} is empty.")
    documents = [block["document"] for block in content if "document" in block]
    if documents and message["role"] != "user":
        raise Refusal(400, None, "A document can be in a user message alone.")
    if documents and not any("text" in block for block in content):
        raise Refusal(400, None, "You must include a text field beside a document.")
    names = [document["name"] for document in documents]
    if len(set(names)) < len(names):
        raise Refusal(400, None, f"messages.{index}: document names must differ.")
    if any(len(name) > LONGEST_NAME or not DOCUMENT_NAME.fullmatch(name) for name in names):
        raise Refusal(400, None, "The document file name can only contain alphanumeric characters, whitespace…")
    if "reasoningContent" in content[-1]:
        raise Refusal(400, None, f"messages.{index}: The final block in an assistant message cannot be `thinking`.")


def _check_ids(messages: Sequence[Object]) -> None:
    made = [known for message in messages for known in _calls(message)]
    for known in (*made, *(known for message in messages for known in _results(message))):
        if not TOOL_USE_ID.fullmatch(known):
            words = "failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]{1,64}"
            raise Refusal(400, None, f"Value '{known}' at 'toolUseId' {words}")
    if len(set(made)) < len(made):
        raise Refusal(400, None, "messages: `tool_use` ids must be unique")
    if _results(messages[0]):
        raise _too_many(0)
    for index, (message, after) in enumerate(pairwise(messages)):
        missing = set(_calls(message)) - set(_results(after))
        if missing:
            words = f"Expected toolResult blocks at messages.{index + 1}.content for the following Ids"
            raise Refusal(400, None, f"{words}: {', '.join(missing)}")
        if set(_results(after)) - set(_calls(message)):
            raise _too_many(index + 1)


def _check_end(message: Object) -> None:
    text = message["content"][-1].get("text", "")
    if message["role"] == "assistant" and text != text.rstrip():
        raise Refusal(400, None, "messages: final assistant content cannot end with trailing whitespace")


def _too_many(index: int) -> Refusal:
    words = f"The number of toolResult blocks at messages.{index}.content exceeds the number of toolUse blocks"
    return Refusal(400, None, f"{words} of previous turn.")


def _is_blank(block: Object) -> bool:
    return "text" in block and not block["text"].strip()


def _inner(blocks: Sequence[Object]) -> list[Object]:
    return [inner for block in blocks if "toolResult" in block for inner in block["toolResult"]["content"]]


def _calls(message: Object) -> list[str]:
    return [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]


def _results(message: Object) -> list[str]:
    return [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
