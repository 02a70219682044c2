"""A form's fields as the JSON body that they mean: `a[b]` and `a.b` are members of `a`, `a[]` and `a[0]` elements."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from manifold import create_body
from manifold.errors import InvalidRequest

_ELEMENT = re.compile(r"(?:\[\d*\]|\.\d+)?")
_MEMBER = re.compile(r"\[(\w+)\]|\.(\w+)")
_LISTS, _OBJECTS = frozenset({"target_model_names", "model"}), frozenset({"expires_after"})
_FILES = frozenset({"file", "data"})
_NOT_IN_QUERY = frozenset({"expiresafter", "purpose", "filename", "bytes", "mimetype"})
"""However they are written."""


def body(fields: Iterable[tuple[str, object]], known: Iterable[str]) -> dict[str, Any]:
    """The members that a form's fields make. Raises `InvalidRequest` for an unknown field, or one that is sent twice.

    A member that may have several elements is a list. LiteLLM's own fields are left out.
    """
    result: dict[str, Any] = {}
    for field, value in fields:
        name, rest = _split(field, known)
        if name in create_body.LITELLM:
            continue
        if name not in _FILES and not isinstance(value, str):
            message = f"The parameter '{name}' was sent as a file. Send it as a text, without a file name."
            raise InvalidRequest(message, param=name, code="invalid_value")
        if name in _LISTS:
            result.setdefault(name, []).append(value)
        elif rest:
            _add(result.setdefault(name, {}), rest, value, field)
        else:
            _add(result, name, value, field)
    return {name: _object(value) if name in _OBJECTS else value for name, value in result.items()}


def require_no_fields(query: Iterable[str]) -> None:
    """Raise `InvalidRequest` if a query has a field of the body, which would be ignored there."""
    for field in query:
        if re.sub("[-_ ]", "", _head(field)).lower() in _NOT_IN_QUERY:
            message = f"The parameter '{field[:64]}' is in the query. Send it in the body."
            raise InvalidRequest(message, param=field[:64], code="unknown_parameter")


def _split(field: str, known: Iterable[str]) -> tuple[str, str]:
    """The name of the member that a field means, and that of the member within it, or an empty text."""
    name = _head(field)
    rest = field[len(name) :]
    inner = _MEMBER.fullmatch(rest)
    fits = _ELEMENT.fullmatch(rest) if name in _LISTS else not rest or (inner and name in _OBJECTS)
    create_body.require_known([name if name in create_body.LITELLM or fits else field], known)
    return name, (inner[1] or inner[2]) if inner and name in _OBJECTS else ""


def _head(field: str) -> str:
    return re.split(r"[\[.]", field, maxsplit=1)[0]


def _add(to: object, name: str, value: object, field: str) -> None:
    if not isinstance(to, dict) or name in to:
        message = f"The parameter '{field[:64]}' was sent twice. Send it once."
        raise InvalidRequest(message, param=field[:64], code="duplicate_parameter")
    to[name] = value


def _object(value: object) -> object:
    """The object of a text that is JSON. Any other text is returned as it is, to be refused with its name."""
    if not isinstance(value, str):
        return value
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, Mapping) else value
