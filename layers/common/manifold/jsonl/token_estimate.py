"""How many tokens a request has, about: one weight for each byte of its text, and no tokenizer.

The weights are fitted to `o200k_base`, the encoding of OpenAI's models since GPT-4o, on texts in 44 languages, code and
JSON (docs/decisions/0021-token-estimates.md has the error of each). A character's first byte in UTF-8 has the weight,
because it tells the script; the others have none.
"""

import string
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import adler32

import orjson

MESSAGE_TOKENS = 4
"""What the format of a chat adds to each message."""
REQUEST_TOKENS = 3
"""What it adds to each request, where the answer begins."""
IMAGE_TOKENS = 765
"""An image of 1024 x 1024 pixels at OpenAI. Its size is not read, and its base64 is not counted."""
SMALL_IMAGE_TOKENS = 85
"""The same with `"detail": "low"`, whatever its size."""
AUDIO_TOKENS = 600
"""One minute, at ten tokens a second."""
FILE_TOKENS = 2_000
"""A document of two pages: their text, and each as an image."""

_TEXT_MEMBERS = ("messages", "input", "prompt", "instructions", "system")
_SCHEMA_MEMBERS = ("tools", "functions", "response_format", "text")
_PARTS = {
    "image_url": IMAGE_TOKENS,
    "input_image": IMAGE_TOKENS,
    "image": IMAGE_TOKENS,
    "computer_screenshot": IMAGE_TOKENS,
    "input_audio": AUDIO_TOKENS,
    "file": FILE_TOKENS,
    "input_file": FILE_TOKENS,
    "document": FILE_TOKENS,
    "video_url": FILE_TOKENS,
    "input_video": FILE_TOKENS,
}
_NO_TEXT = frozenset({"role", "type", "id", "call_id", "tool_call_id", "status"})
_UNIT = 64  # the weight of a token

_Shared = tuple[str, float]

_PIECE = 256  # characters
_MAX_PIECES = 4  # of one request; a longer text is estimated by pieces of it
_MAX_SUM = (
    512  # weights that `adler32` adds up without an overflow, as the largest is 122: 512 times 122 is below 65521
)
_MAX_VALUES = 1_000  # that are visited in one request
_MAX_ITEMS = 64  # that are visited in one list; the others are taken to be like them


def _weights() -> bytes:
    weights = [0.0] * 256
    for characters, weight in (
        (string.ascii_lowercase.encode(), 0.21),
        (string.ascii_uppercase.encode(), 0.32),
        (string.digits.encode(), 0.70),
        (string.punctuation.encode(), 0.54),
        (b"\n", 1.3),
        (b"\t", 0.5),
        (b"\xc2\xc6", 0.5),
        (b"\xc3", 1.32),  # é, ü
        (bytes([0xC4, 0xC5, *range(0xC7, 0xCD)]), 1.66),  # ł, ő
        (bytes(range(0xCD, 0xD0)), 0.41),  # Greek
        (bytes(range(0xD0, 0xD4)), 0.28),  # Cyrillic
        (b"\xd4\xd5", 0.31),  # Armenian
        (b"\xd6\xd7", 0.45),  # Hebrew
        (bytes(range(0xD8, 0xE0)), 0.37),  # Arabic
        (b"\xe0", 0.39),  # the scripts of India, Thai
        (b"\xe1", 0.45),  # Georgian
        (b"\xe2", 0.6),  # punctuation beyond ASCII
        (b"\xe3", 0.7),  # kana
        (bytes(range(0xE4, 0xEA)), 0.76),  # Chinese
        (bytes(range(0xEA, 0xEE)), 0.73),  # Hangul
        (b"\xee", 1.9),
        (b"\xef", 0.7),
        (bytes(range(0xF0, 0xF5)), 1.6),  # emoji
    ):
        for byte in characters:
            weights[byte] = weight
    return bytes(round(weight * _UNIT) for weight in weights)


_WEIGHTS = _weights()


def text_tokens(text: str) -> int:
    """The tokens of a text, estimated. Of a long one pieces are read, at equal distances."""
    return round(_weight(text, _MAX_PIECES) / _UNIT)


def request_tokens(body: Mapping[str, Any]) -> int:
    """The input tokens of a request's body, estimated. A bounded number of its values and of their bytes is read."""
    texts, tokens = _texts(body)
    length = sum(len(text) for text, _ in texts)
    weight = sum(_weight(text, 1 + len(text) * _MAX_PIECES // length) * share for text, share in texts if text)
    return round(REQUEST_TOKENS + weight / _UNIT + tokens)


def _texts(body: Mapping[str, Any]) -> tuple[list[_Shared], float]:
    """The texts of a body, each with the number of those that it stands for, and the tokens of all that is no text."""
    texts = [(_json(body[name]), 1.0) for name in _SCHEMA_MEMBERS if body.get(name)]
    tokens = 0.0
    left: list[tuple[Any, float]] = [(body[name], 1.0) for name in _TEXT_MEMBERS if name in body]
    for _ in range(_MAX_VALUES):
        if not left:
            return texts, tokens
        value, share = left.pop()
        if isinstance(value, str):
            texts.append((value, share))
        elif isinstance(value, dict):
            part = _part_tokens(value)
            if part is None:
                tokens += MESSAGE_TOKENS * share if "role" in value else 0
                left += _shared([value[name] for name in value if name not in _NO_TEXT], share)
            else:
                tokens += part * share
        elif isinstance(value, list):
            left += _shared(value, share)
        elif value is not None:
            tokens += share  # a number: in the input of embeddings a token
    more = 1 + len(left) / _MAX_VALUES
    return [(text, share * more) for text, share in texts], tokens * more


def _part_tokens(value: Mapping[str, Any]) -> int | None:
    """The tokens of an image, a sound or a document; None for any other object."""
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        return None
    image = value.get("image_url")
    detail = image.get("detail") if isinstance(image, dict) else value.get("detail")
    return SMALL_IMAGE_TOKENS if detail == "low" else _PARTS[kind]


def _shared(values: Sequence[Any], share: float) -> list[tuple[Any, float]]:
    """The values, or some of them at equal distances, each with the number of those that it stands for."""
    if len(values) <= _MAX_ITEMS:
        return [(value, share) for value in values]
    every = len(values) / _MAX_ITEMS
    return [(values[int(number * every)], share * every) for number in range(_MAX_ITEMS)]


def _json(value: object) -> str:
    """A schema as text: its names count, too."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested deeper than it writes
        return ""


def _weight(text: str, pieces: int) -> float:
    length = len(text)
    if length <= pieces * _PIECE:
        return _sum(text.encode())
    every = length / pieces
    read = "".join(text[int(number * every) : int(number * every) + _PIECE] for number in range(pieces))
    return _sum(read.encode()) * length / len(read)


def _sum(data: bytes) -> int:
    """The weights of these bytes, added up. The low half of Adler-32 is the sum of the bytes modulo 65521."""
    weights = data.translate(_WEIGHTS)
    return sum(adler32(weights[at : at + _MAX_SUM], 0) & 0xFFFF for at in range(0, len(weights), _MAX_SUM))
