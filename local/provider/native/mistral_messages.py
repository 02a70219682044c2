"""What Mistral refuses in a conversation that OpenAI takes: https://docs.mistral.ai/api/#tag/chat"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from local.provider.completion_requests import parse
from local.provider.messages import Part, System, User
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict
from local.provider.tools import Called

ToolId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9]{9}$")]
"""Mistral's words: "Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9"."""


class ToolCall(Strict):
    id: ToolId
    type: Literal["function"]
    function: Called
    index: int | None = None


class Assistant(Strict):
    role: Literal["assistant"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    prefix: bool = False


class ToolResult(Strict):
    role: Literal["tool"]
    content: str | list[Part] | None
    tool_call_id: ToolId
    name: str | None = None


class Conversation(BaseModel):
    messages: Annotated[
        list[Annotated[System | User | Assistant | ToolResult, Field(discriminator="role")]], Field(min_length=1)
    ]


def check(body: Mapping[str, Any]) -> None:
    for message in parse(Conversation, body).messages:
        if isinstance(message, Assistant) and not message.content and not message.tool_calls:
            words = "Assistant message must have either content or tool_calls, but not none."
            raise Refusal(400, "invalid_request_assistant_message", words)
