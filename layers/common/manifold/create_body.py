"""The members of a create's body: the known ones, and LiteLLM's own, which are ignored."""

from collections.abc import Iterable, Iterator, Mapping

import orjson
from pydantic import BaseModel, ConfigDict, model_validator

from manifold.errors import InvalidRequest

LITELLM = frozenset({
    "custom_llm_provider", "extra_body", "extra_headers", "extra_query", "litellm_call_id", "litellm_metadata",
    "litellm_session_id", "litellm_trace_id", "num_retries", "passthrough", "provider", "tags", "target_storage",
    "timeout", "user",
})  # fmt: skip
"""Members that LiteLLM's clients send to LiteLLM's proxy: which provider, how to call it, what to log."""


def require_known(sent: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InvalidRequest` for the first member that is neither known nor LiteLLM's."""
    names = list(known)
    for name in sent:
        if name not in names and name not in LITELLM:
            message = f"Unknown parameter: '{name[:64]}'. The parameters here are {', '.join(names)}."
            raise InvalidRequest(message, param=name[:64], code="unknown_parameter")


class CreateBody(BaseModel):
    """A JSON body. An unknown member is a 400 that names it and lists the known ones.

    A validator is built at its first use, as an environment gets few of many.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_litellms(cls, body: object) -> object:
        if not isinstance(body, Mapping):
            return body
        require_known(body, cls.model_fields)
        return {name: value for name, value in body.items() if name in cls.model_fields}


def names_in(value: object, param: str = "target_model_names") -> list[str]:
    """The models that a value names, each once: a name, names with commas, a list of these, or a list as JSON text.

    Raises `InvalidRequest` for any other value.
    """
    return list(dict.fromkeys(_names(value, param)))


def _names(value: object, param: str) -> Iterator[str]:
    match value:
        case None:
            return
        case str() if value.lstrip().startswith("["):
            yield from _names(_parsed(value, param), param)
        case str():
            yield from (name for one in value.split(",") if (name := one.strip()))
        case list() if all(isinstance(one, str) for one in value):
            for one in value:
                yield from _names(one, param)
        case _:
            raise _no_names(param)


def _parsed(text: str, param: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _no_names(param) from None


def _no_names(param: str) -> InvalidRequest:
    message = f"Invalid value for '{param}': send the name of a model, names with commas, or a list of names."
    return InvalidRequest(message, param=param, code="invalid_value")
