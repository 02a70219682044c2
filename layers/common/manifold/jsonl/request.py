"""The checks of a line, member by member: whether it is a request that a batch can run. Each raises `BadLine`."""

from typing import Any

import orjson

_LONGEST_NAME = 512  # characters of a model or url; the longest in use have about 100


class BadLine(Exception):
    """Why a line is no such request: OpenAI's or Azure's `code`, and a message that says what to do."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def parsed(line: bytes) -> dict[str, Any]:
    """The line's object, of strict JSON (RFC 8259): UTF-8, no NaN, no lone surrogates; at most 1024 levels deep."""
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        reason = f"This line is not valid JSON: {error.msg} (column {error.colno}). Write one JSON object per line."
        raise BadLine("invalid_json_line", reason) from None
    if not isinstance(request, dict):
        raise BadLine("invalid_json_line", "This line is JSON, but not an object. Write one JSON object per line.")
    return request


def custom_id(request: dict[str, Any]) -> str:
    """The request's `custom_id`, a text that is not empty."""
    return _text(request, "custom_id", "custom_id")


def url(request: dict[str, Any]) -> str:
    """The request's `url`. Checks its `method`, too."""
    method = _text(request, "method", "method")
    if method != "POST":
        raise BadLine("invalid_request", f"'method' is {shown(method)}. Batches take only 'POST'.", "method")
    return _name(request, "url", "url")


def model(request: dict[str, Any]) -> str:
    """The request's `body.model`. Checks its `stream`, too."""
    body = _present(request, "body", "body")
    if not isinstance(body, dict):
        raise BadLine("invalid_request", "'body' must be an object: the parameters of the request.", "body")
    if body.get("stream") is True:
        raise BadLine("invalid_request", "A batch cannot stream. Remove 'stream' from the body.", "body.stream")
    return _name(body, "model", "body.model")


def shown(value: str) -> str:
    """A value of the user's as it appears in a message: quoted, and cut when long."""
    return repr(value if len(value) <= 64 else value[:63] + "…")


def _present(owner: dict[str, Any], key: str, param: str) -> object:
    value = owner.get(key)
    if value is None:
        raise BadLine("missing_required_parameter", f"Missing required parameter: '{param}'.", param)
    return value


def _text(owner: dict[str, Any], key: str, param: str) -> str:
    value = _present(owner, key, param)
    if not isinstance(value, str) or not value:
        raise BadLine("invalid_request", f"'{param}' must be a string that is not empty.", param)
    return value


def _name(owner: dict[str, Any], key: str, param: str) -> str:
    value = _text(owner, key, param)
    if len(value) > _LONGEST_NAME or not value.isprintable():
        limit = f"at most {_LONGEST_NAME} characters, none of them a control character"
        raise BadLine("invalid_request", f"'{param}' is {shown(value)}. It must have {limit}.", param)
    return value
