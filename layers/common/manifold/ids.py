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

_ALPHABET = (string.ascii_letters + string.digits).encode()
_LENGTH = 24  # 136 bits at least: no collisions, and no id can be guessed
_OF_BYTES = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
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
    return _PREFIX[kind] + secrets.token_bytes(_LENGTH).translate(_OF_BYTES).decode()


def virtual_key() -> str:
    """A new virtual key, `sk-…`: a secret, shown once and stored as a hash."""
    return "sk-" + secrets.token_urlsafe(32)
