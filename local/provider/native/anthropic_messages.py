"""What Anthropic takes for a conversation: https://platform.claude.com/docs/en/api/messages"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

ToolId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
CacheControl = dict[str, Any]
BLANK = "text content blocks must contain non-whitespace text"


class Text(Strict):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: list[Any] | None = None


class Base64Image(Strict):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Field(min_length=1)]


class Base64PDF(Strict):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: Annotated[str, Field(min_length=1)]


class PlainText(Strict):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: Annotated[str, Field(min_length=1)]


class Address(Strict):
    type: Literal["url"]
    url: Annotated[str, Field(pattern="^https?://")]


class Image(Strict):
    type: Literal["image"]
    source: Base64Image | Address
    cache_control: CacheControl | None = None


class Document(Strict):
    type: Literal["document"]
    source: Base64PDF | PlainText | Address
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class Thinking(Strict):
    type: Literal["thinking"]
    thinking: str
    signature: Annotated[str, Field(min_length=1)]


class RedactedThinking(Strict):
    type: Literal["redacted_thinking"]
    data: str


class ToolUse(Strict):
    type: Literal["tool_use"]
    id: ToolId
    name: Annotated[str, Field(min_length=1, max_length=200)]
    input: dict[str, Any]
    cache_control: CacheControl | None = None


Inner = Annotated[Text | Image | Document, Field(discriminator="type")]


class ToolResult(Strict):
    type: Literal["tool_result"]
    tool_use_id: ToolId
    content: str | list[Inner] = ""
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Block = Annotated[
    Text | Image | Document | Thinking | RedactedThinking | ToolUse | ToolResult, Field(discriminator="type")
]


class Message(Strict):
    role: Literal["user", "assistant"]
    content: Annotated[list[Block], Field(min_length=1)]

    @field_validator("content", mode="before")
    @classmethod
    def as_blocks(cls, content: object) -> object:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    def calls(self) -> list[str]:
        return [block.id for block in self.content if isinstance(block, ToolUse)]

    def results(self) -> list[str]:
        return [block.tool_use_id for block in self.content if isinstance(block, ToolResult)]


def check_messages(system: Sequence[Block], messages: Sequence[Message]) -> None:
    """What the shapes alone do not say, in Anthropic's words."""
    if any(map(_is_blank, system)):
        raise Refusal(400, None, f"system: {BLANK}")
    if messages[0].role != "user":
        raise Refusal(400, None, 'messages: first message must use the "user" role')
    for index, message in enumerate(messages):
        if any(_blanks(message)):
            raise Refusal(400, None, f"messages.{index}: {BLANK}")
        if isinstance(message.content[-1], Thinking | RedactedThinking):
            raise Refusal(400, None, f"messages.{index}: The final block in an assistant message cannot be `thinking`.")
    _check_calls(messages)
    last = messages[-1].content[-1]
    if messages[-1].role == "assistant" and isinstance(last, Text) and last.text != last.text.rstrip():
        raise Refusal(400, None, "messages: final assistant content cannot end with trailing whitespace")


def words(blocks: Sequence[Block]) -> str:
    """The text; anything else by its type: `[image]`."""
    return " ".join(_word(block) for block in blocks)


def _check_calls(messages: Sequence[Message]) -> None:
    made = [known for message in messages for known in message.calls()]
    if len(set(made)) < len(made):
        raise Refusal(400, None, "messages: `tool_use` ids must be unique")
    if messages[0].results():
        raise _unexpected(0, messages[0].results())
    for index, (message, after) in enumerate(pairwise(messages)):
        missing = set(message.calls()) - set(after.results())
        if missing:
            words = "`tool_use` ids were found without `tool_result` blocks immediately after"
            raise Refusal(400, None, f"messages.{index}: {words}: {', '.join(sorted(missing))}")
        unexpected = set(after.results()) - set(message.calls())
        if unexpected:
            raise _unexpected(index + 1, sorted(unexpected))


def _unexpected(index: int, ids: Sequence[str]) -> Refusal:
    words = "unexpected `tool_use_id` found in `tool_result` blocks"
    return Refusal(400, None, f"messages.{index}: {words}: {', '.join(ids)}")


def _blanks(message: Message) -> Iterator[bool]:
    for block in message.content:
        yield _is_blank(block)
        if isinstance(block, ToolResult) and isinstance(block.content, list):
            yield from map(_is_blank, block.content)


def _is_blank(block: Block) -> bool:
    return isinstance(block, Text) and not block.text.strip()


def _word(block: Block) -> str:
    if isinstance(block, ToolResult):
        return block.content if isinstance(block.content, str) else words(block.content)
    return block.text if isinstance(block, Text) else f"[{block.type}]"
