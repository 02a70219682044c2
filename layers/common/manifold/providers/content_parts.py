"""The parts of a message's content: text, images and documents, checked and typed.

https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages
"""

import base64
import binascii
import mimetypes
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from manifold.errors import InvalidRequest

DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[^;,]*)*?;base64,(?P<data>.*)", re.DOTALL)
SPELLINGS: Mapping[str, str] = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Media types as some clients write them, with the registered ones."""
PDF = "application/pdf"


class Text(NamedTuple):
    """A text."""

    text: str
    path: str
    """Its place in the request: `messages[0].content[1]`."""
    extra: Mapping[str, Any]
    """The part's members beyond OpenAI's: the provider's own, such as `cache_control`."""


class Picture(NamedTuple):
    """An image: its bytes (`media_type`, and `data` in Base64) or its URL."""

    url: str
    media_type: str | None
    data: str | None
    path: str
    extra: Mapping[str, Any]


class Document(NamedTuple):
    """A file: its bytes, in Base64."""

    media_type: str
    data: str
    name: str | None
    path: str
    extra: Mapping[str, Any]


Part = Text | Picture | Document


def invalid_value(path: str, why: str) -> InvalidRequest:
    """The error for a value at this place in the request; `why` continues the sentence: "must be text"."""
    return InvalidRequest(f"'{path}' {why}.", param=path, code="invalid_value")


def read_parts(content: object, path: str) -> tuple[Part, ...]:
    """The parts of a content; null has none. `InvalidRequest` names the part that has not OpenAI's shape."""
    if isinstance(content, str):
        return (Text(content, path, {}),)
    if content is None:
        return ()
    if not isinstance(content, list):
        raise invalid_value(path, "must be text, or a list of parts")
    return tuple(_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def read_texts(content: object, path: str) -> tuple[Text, ...]:
    """The same for a role whose content is text alone."""
    return tuple(_text(part) for part in read_parts(content, path))


def plain_text(parts: Sequence[Part]) -> str:
    """The texts of the parts, joined."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def is_blank(part: Part) -> bool:
    """Whether it is a text of white space alone, which OpenAI's clients send and other providers refuse."""
    return isinstance(part, Text) and (not part.text or part.text.isspace())


def refuse_documents(parts: Sequence[Part]) -> None:
    """Refuse documents, for a provider that takes none."""
    for part in parts:
        if isinstance(part, Document):
            raise invalid_value(part.path, "cannot be a file for this model: send its text")


def _text(part: Part) -> Text:
    if not isinstance(part, Text):
        raise invalid_value(part.path, "must be text in a message of this role")
    return part


def _part(part: object, path: str) -> Part:
    if not isinstance(part, dict):
        raise invalid_value(path, "must be an object with a type")
    kind = part.get("type")
    extra = {name: value for name, value in part.items() if name not in ("type", kind)}
    match kind:
        case "text" | "refusal":
            if not isinstance(part.get(kind), str):
                raise invalid_value(f"{path}.{kind}", "must be text")
            return Text(part[kind], path, extra)
        case "image_url":
            return _picture(part.get("image_url"), f"{path}.image_url", extra)
        case "file":
            return _document(part.get("file"), f"{path}.file", extra)
    raise invalid_value(f"{path}.type", f"cannot be {kind!r} for this model: it takes text, image_url and file")


def _picture(image: object, path: str, extra: Mapping[str, Any]) -> Picture | Document:
    """An image, or a PDF, which LiteLLM's clients send in this form."""
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise invalid_value(f"{path}.url", "must be a URL or a data URL")
    if not url.startswith("data:"):
        return Picture(url, None, None, path, extra)
    parsed = _data_url(url)
    if parsed is None:
        raise invalid_value(f"{path}.url", "must be a URL, or data:image/…;base64,…")
    media_type, data = parsed
    if media_type == PDF:
        return Document(media_type, data, None, path, extra)
    return Picture(f"data:{media_type};base64,{data}", media_type, data, path, extra)


def _document(file: object, path: str, extra: Mapping[str, Any]) -> Document:
    """A file: as a data URL or, as OpenAI takes it too, as Base64 alone."""
    members = file if isinstance(file, dict) else {}
    data, name = members.get("file_data"), members.get("filename")
    name = name if isinstance(name, str) and name else None
    if members.get("file_id") is not None and data is None:
        raise invalid_value(f"{path}.file_id", "cannot be used with this model: send the file itself, as file_data")
    if isinstance(data, str) and not data.startswith("data:"):
        data = f"data:{_guess_type(name)};base64,{data}"
    parsed = _data_url(data) if isinstance(data, str) else None
    if parsed is None:
        raise invalid_value(f"{path}.file_data", "must be data:application/pdf;base64,… or the like")
    return Document(*parsed, name, path, extra)


def _guess_type(name: str | None) -> str:
    return mimetypes.guess_type(name or "")[0] or PDF


def _data_url(url: str) -> tuple[str, str] | None:
    """The registered media type and the Base64 of a data URL, `None` if it is not one."""
    match = DATA_URL.fullmatch(url)
    if match is None or not _is_base64(match["data"]):
        return None
    media_type = match["type"].lower()
    return SPELLINGS.get(media_type, media_type), match["data"]


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False
