"""Random ids with OpenAI's prefixes. They contain no provider id, no model, no secret and no time."""

import secrets
import string
from typing import Literal

Kind = Literal[
    "file",
    "batch",
    "upload",
    "part",
    "input",
    "job",
    "shard",
    "chunk",
    "key",
    "user",
    "team",
    "request",
    "call",
    "webhook",
]  # fmt: skip

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 24  # 142 bits: no collisions, and no id can be guessed
_COUNT = len(_ALPHABET) ** _LENGTH
_PREFIX: dict[Kind, str] = {
    "file": "file-",
    "batch": "batch_",
    "shard": "shard_",
    "upload": "upload_",
    "part": "part_",
    "input": "input_",
    "job": "job_",
    "chunk": "chunk_",
    "key": "key_",
    "user": "user_",
    "team": "team_",
    "request": "req_",
    "call": "call_",
    "webhook": "webhook_",
}


def new(kind: Kind) -> str:
    """A new id of this kind, such as `file-…` or `batch_…`."""
    number = secrets.randbelow(_COUNT)  # one random number: one for each character takes ten times as long
    characters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return _PREFIX[kind] + "".join(characters)


def virtual_key() -> str:
    """A new virtual key, `sk-…`: a secret, shown once and stored as a hash."""
    return "sk-" + secrets.token_urlsafe(32)
