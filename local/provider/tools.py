"""The tools of a request for a completion, the choice among them, and the calls of earlier answers.

https://platform.openai.com/docs/guides/function-calling
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from local.provider.strict_model import Strict

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, Field(max_length=40)]


class Function(Strict):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    type: Literal["function"]
    function: Function

    @property
    def name(self) -> str:
        return self.function.name


class Grammar(Strict):
    definition: str
    syntax: Literal["lark", "regex"]


class TextFormat(Strict):
    type: Literal["text"]


class GrammarFormat(Strict):
    type: Literal["grammar"]
    grammar: Grammar


class Custom(Strict):
    name: Name
    description: str | None = None
    format: Annotated[TextFormat | GrammarFormat, Field(discriminator="type")] | None = None


class CustomTool(Strict):
    """A tool that takes any text."""

    type: Literal["custom"]
    custom: Custom

    @property
    def name(self) -> str:
        return self.custom.name


Tool = Annotated[FunctionTool | CustomTool, Field(discriminator="type")]


class ToolName(Strict):
    name: str


class NamedFunction(Strict):
    type: Literal["function"]
    function: ToolName

    @property
    def name(self) -> str:
        return self.function.name


class NamedCustom(Strict):
    type: Literal["custom"]
    custom: ToolName

    @property
    def name(self) -> str:
        return self.custom.name


NamedTool = Annotated[NamedFunction | NamedCustom, Field(discriminator="type")]


class Allowed(Strict):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1)]


class AllowedTools(Strict):
    type: Literal["allowed_tools"]
    allowed_tools: Allowed


ToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[NamedFunction | NamedCustom | AllowedTools, Field(discriminator="type")]
)


class Called(Strict):
    name: str
    arguments: str


class CustomCalled(Strict):
    name: str
    input: str


class FunctionCall(Strict):
    id: CallId
    type: Literal["function"]
    function: Called


class CustomCall(Strict):
    id: CallId
    type: Literal["custom"]
    custom: CustomCalled


ToolCall = Annotated[FunctionCall | CustomCall, Field(discriminator="type")]
