"""A multipart form before it is parsed: https://www.rfc-editor.org/rfc/rfc7578, …/rfc2046#section-5.1"""

from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any

from manifold.errors import InvalidRequest


def is_form(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def whole(body: bytes, content_type: str) -> bytes:
    """The form in a body, without what may stand before and after it.

    Raises `InvalidRequest` if it is cut off, whose last part a parser would drop in silence, or has no such parts.
    """
    boundary = _boundary(content_type)
    if not boundary:
        raise _no_form("The Content-Type has no boundary. Let your HTTP client write the header")
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    start = 0 if body.startswith(delimiter) else body.find(b"\n" + delimiter) + 1
    if not body.startswith(delimiter, start):
        raise _no_form(f"No part of the body begins with the Content-Type's boundary, '--{boundary[:70]}'")
    if body.startswith(b"\n", start + len(delimiter)):
        raise _no_form("The lines of the form end in LF. End them in CR LF")
    end = body.rfind(delimiter + b"--")
    if end < 0:
        raise InvalidRequest(
            "The body breaks off in the middle: the boundary that ends the form is not there. Send it again.",
            code="incomplete_body",
        )
    return body[start : end + len(delimiter) + 2] + b"\r\n"


def with_plain_name(disposition: bytes) -> bytes:
    """A part's Content-Disposition, with the name in its `filename*` as its `filename`: old clients and .NET's send it.

    https://www.rfc-editor.org/rfc/rfc6266#section-4.3: `filename*` counts where both are there.
    """
    if b"filename*" not in disposition.lower():
        return disposition
    message = Message()
    message["content-disposition"] = disposition.decode("latin-1")
    parameters: list[tuple[str, Any]] = message.get_params([], header="content-disposition")
    extended = [value for name, value in parameters if name.lower() == "filename" and isinstance(value, tuple)]
    if not extended:
        return disposition
    field = str(message.get_param("name", "", header="content-disposition")).encode("latin-1")
    try:
        filename = collapse_rfc2231_value(extended[0]).encode("utf-8", "replace")
    except (ValueError, LookupError):  # a character set that is none, or cannot be read as one
        return disposition
    return b'form-data; name="%s"; filename="%s"' % (_escaped(field), _escaped(filename))


def _escaped(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _boundary(content_type: str) -> str | None:
    message = Message()
    message["content-type"] = content_type
    try:
        return message.get_boundary()
    except (ValueError, LookupError):  # as in `with_plain_name`
        return None


def _no_form(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body is no form that can be read. {reason}.", code="invalid_form")
