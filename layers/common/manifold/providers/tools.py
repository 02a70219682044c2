"""OpenAI's `tools` and `tool_choice`, read for adapters that translate them.

https://platform.openai.com/docs/guides/function-calling
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from manifold.providers.content_parts import invalid_value
from manifold.providers.parameters import Params

Mode = Literal["auto", "none", "required"]
REMOVED = "This tool is no longer there: do not call it."
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    strict: bool
    path: str
    """Its place in the request: `tools[0]`."""
    extra: Mapping[str, Any]
    """The tool's members beyond OpenAI's: the provider's own, such as `cache_control`."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of a request, and which of them the model may or must call."""

    functions: tuple[Function, ...]
    natives: tuple[Mapping[str, Any], ...]
    """The provider's own tools, as the client sent them."""
    mode: Mode
    only: str | None = None
    """The one function that must be called."""
    parallel: bool = True
    """`False` if parallel calls are forbidden, and there is a tool that may be called."""

    def __bool__(self) -> bool:
        return bool(self.functions or self.natives)

    def narrowed(self) -> "Tools":
        """The same for a provider that cannot name the function to call: it gets only this one."""
        functions = tuple(function for function in self.functions if self.only in (None, function.name))
        return replace(self, functions=functions, only=None)


def take_tools(params: Params) -> Tools:
    """Take the tools and the choice of them. `InvalidRequest` names what has not OpenAI's shape."""
    tools, choice = params.take("tools") or [], params.take("tool_choice")
    parallel = params.take("parallel_tool_calls") is not False
    if not tools and choice is None:
        return Tools((), (), "auto")
    if not isinstance(tools, list):
        raise invalid_value("tools", "must be a list")
    parsed = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    functions = tuple(tool for tool in parsed if isinstance(tool, Function))
    natives = tuple(tool for tool in parsed if not isinstance(tool, Function))
    chosen = _chosen(Tools(functions, natives, "auto"), choice)
    return replace(chosen, parallel=parallel or not chosen or chosen.mode == "none")


def removed_tools(names: Iterable[str]) -> Tools:
    """Declarations of tools that were called before, for a provider that wants them even if none may be called now."""
    functions = (Function(name, REMOVED, {}, strict=False, path="messages", extra={}) for name in dict.fromkeys(names))
    return Tools(tuple(functions), (), "none")


def refuse_one_at_a_time(tools: Tools, params: Params) -> None:
    """Refuse `parallel_tool_calls: false` for a provider without such a parameter."""
    if not tools.parallel:
        params.refuse("parallel_tool_calls", "it may call several tools at once")


def refuse_extras(tools: Tools, params: Params, known: frozenset[str] = frozenset()) -> None:
    """Refuse members of functions that are another provider's own."""
    for function in tools.functions:
        for name in function.extra.keys() - known:
            params.refuse(f"{function.path}.{name}", "only another provider has it")


def _tool(tool: object, path: str) -> Function | Mapping[str, Any]:
    if not isinstance(tool, dict):
        raise invalid_value(path, "must be an object")
    if tool.get("type") == "custom" and "custom" in tool:
        raise invalid_value(f"{path}.type", "cannot be 'custom' for this model")
    if tool.get("type") != "function":
        return tool
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid_value(f"{path}.function", "must be an object with a name")
    parameters = function.get("parameters") or NO_PARAMETERS
    if not isinstance(parameters, dict):
        raise invalid_value(f"{path}.function.parameters", "must be a JSON schema")
    return Function(
        name=function["name"],
        description=function.get("description"),
        parameters=parameters,
        strict=bool(function.get("strict")),
        path=path,
        extra={name: value for name, value in tool.items() if name not in ("type", "function")},
    )


def _chosen(tools: Tools, choice: object) -> Tools:
    if choice is None:
        return tools
    if choice in ("none", "required"):
        return replace(tools, mode="none" if choice == "none" else "required")
    if isinstance(choice, dict) and choice.get("type") == "function":
        return replace(tools, mode="required", only=_known_name(_name(choice, "tool_choice"), tools))
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return _allowed(tools, choice.get("allowed_tools"))
    raise invalid_value("tool_choice", "must be none, auto, required, or name functions")


def _allowed(tools: Tools, allowed: object) -> Tools:
    """Only these functions: the provider gets no others."""
    listed: Sequence[object] = (allowed.get("tools") or []) if isinstance(allowed, dict) else []
    names = {_name(tool, "tool_choice.allowed_tools.tools") for tool in listed}
    required = isinstance(allowed, dict) and allowed.get("mode") == "required"
    functions = tuple(function for function in tools.functions if function.name in names)
    return replace(tools, functions=functions, mode="required" if required else "auto")


def _known_name(name: str, tools: Tools) -> str:
    """The name, if a function has it. The names of the provider's own tools are not known here."""
    if tools.functions and not tools.natives and name not in {function.name for function in tools.functions}:
        raise invalid_value("tool_choice", "must name a function of 'tools'")
    return name


def _name(choice: object, path: str) -> str:
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise invalid_value(path, "must name a function")
    return name
