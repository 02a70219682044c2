"""A chat's messages: https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from local.provider.strict_model import Strict
from local.provider.tools import Called, CallId, ToolCall

CONTENT_FIELDS = ("text", "image_url", "input_audio", "file", "refusal")


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputAudio(Strict):
    data: str
    format: Literal["wav", "mp3"]


class FileData(Strict):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Breakpoint(Strict):
    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class Part(Strict):
    """A part of a message's content; each type has its content in a field of its own name."""

    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    file: FileData | None = None
    refusal: str | None = None
    prompt_cache_breakpoint: Breakpoint | None = None

    @model_validator(mode="after")
    def has_its_content(self) -> "Part":
        if [name for name in CONTENT_FIELDS if getattr(self, name) is not None] != [self.type]:
            raise ValueError(f"a part of type '{self.type}' has '{self.type}' and nothing else")
        return self


class System(Strict):
    role: Literal["system", "developer"]
    content: str | list[Part]
    name: str | None = None


class User(Strict):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1)]
    name: str | None = None


class AudioReference(Strict):
    """An earlier answer in audio, by its id."""

    id: str


class Assistant(Strict):
    """An earlier answer: `ChatCompletionAssistantMessageParam`, and the `annotations` that answers have."""

    role: Literal["assistant"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[dict[str, Any]] | None = None
    audio: AudioReference | None = None
    function_call: Called | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def says_something(self) -> "Assistant":
        if self.content is None and not (self.tool_calls or self.function_call or self.refusal or self.audio):
            raise ValueError("expected a string, got null")
        return self


class ToolResult(Strict):
    role: Literal["tool"]
    content: str | list[Part]
    tool_call_id: CallId


class FunctionResult(Strict):
    role: Literal["function"]
    content: str | None
    name: str


Message = Annotated[System | User | Assistant | ToolResult | FunctionResult, Field(discriminator="role")]
