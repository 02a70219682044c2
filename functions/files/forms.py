"""A form as the JSON body that it stands for: `a[b]` and `a.b` are members of `a`, `a[]` and `a[0]` its elements."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from manifold import members
from manifold.errors import InvalidRequest

_ELEMENT = re.compile(r"(?:\[\d*\]|\.\d+)?")
_MEMBER = re.compile(r"\[(\w+)\]|\.(\w+)")
_LISTS, _OBJECTS = frozenset({"target_model_names", "model"}), frozenset({"expires_after"})
_FILES = frozenset({"file", "data"})
_NOT_IN_QUERY = frozenset({"expiresafter", "purpose", "filename", "bytes", "mimetype"})
"""However they are written."""


def body(fields: Iterable[tuple[str, object]], known: Iterable[str]) -> dict[str, Any]:
    """The members that a form's fields make. Raises `InvalidRequest` for one that is unknown, or there twice.

    Of those that have many elements, each is a list. What is LiteLLM's own is not in it.
    """
    made: dict[str, Any] = {}
    for field, value in fields:
        name, rest = _split(field, known)
        if name in members.LITELLM:
            continue
        if name not in _FILES and not isinstance(value, str):
            message = f"The parameter '{name}' was sent as a file. Send it as a text, without a file name."
            raise InvalidRequest(message, param=name, code="invalid_value")
        if name in _LISTS:
            made.setdefault(name, []).append(value)
        elif rest:
            _add(made.setdefault(name, {}), rest, value, field)
        else:
            _add(made, name, value, field)
    return {name: _object(value) if name in _OBJECTS else value for name, value in made.items()}


def require_no_fields(query: Iterable[str]) -> None:
    """Raise `InvalidRequest` if a query has what belongs into the body, where it would be overlooked."""
    for field in query:
        if re.sub("[-_ ]", "", _head(field)).lower() in _NOT_IN_QUERY:
            message = f"The parameter '{field[:64]}' is in the query. Send it in the body."
            raise InvalidRequest(message, param=field[:64], code="unknown_parameter")


def _split(field: str, known: Iterable[str]) -> tuple[str, str]:
    """The name of the member that a field stands for, and that of the member within it, if it has one."""
    name = _head(field)
    rest = field[len(name) :]
    inner = _MEMBER.fullmatch(rest)
    fits = _ELEMENT.fullmatch(rest) if name in _LISTS else not rest or (inner and name in _OBJECTS)
    members.require_known([name if name in members.LITELLM or fits else field], known)
    return name, (inner[1] or inner[2]) if inner and name in _OBJECTS else ""


def _head(field: str) -> str:
    return re.split(r"[\[.]", field, maxsplit=1)[0]


def _add(to: object, name: str, value: object, field: str) -> None:
    if not isinstance(to, dict) or name in to:
        message = f"The parameter '{field[:64]}' was sent twice. Send it once."
        raise InvalidRequest(message, param=field[:64], code="duplicate_parameter")
    to[name] = value


def _object(value: object) -> object:
    """An object that came as JSON in a text; any other text stays, to be refused by its name."""
    if not isinstance(value, str):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return found if isinstance(found, Mapping) else value
