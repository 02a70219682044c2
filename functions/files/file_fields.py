"""The fields of a create: purpose, file name, size and expiry, each checked. Each function raises `InvalidRequest`."""

from typing import cast, get_args

from pydantic import ValidationError

from manifold.errors import InvalidRequest, PayloadTooLarge
from manifold.schemas import MAX_EXPIRY, MIN_EXPIRY, ExpiresAfter, FilePurpose

MAX_FILENAME = 255
"""Characters."""
MAX_BYTES = 512 * 1024 * 1024
"""Bytes of a file: OpenAI's limit."""
MAX_BATCH_BYTES = 2 * 1024**3
"""Bytes of a file with the purpose `batch`: more than any provider takes in one."""
BATCH_EXPIRY = 2_592_000
"""Seconds until a file with the purpose `batch` expires by default: OpenAI's thirty days."""
PRODUCED: frozenset[FilePurpose] = frozenset({"assistants_output", "batch_output", "fine-tune-results"})
"""Purposes of files that the API makes. A client cannot give them."""
PURPOSES = tuple(sorted(frozenset(get_args(FilePurpose)) - PRODUCED))


def purpose(written: str | None) -> FilePurpose:
    """The purpose, if a client's file may have it."""
    if not written:
        raise InvalidRequest(
            "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )
    if written not in PURPOSES:
        message = f"Invalid value for 'purpose': '{written[:50]}'. Use one of {', '.join(PURPOSES)}."
        raise InvalidRequest(message, param="purpose", code="invalid_value")
    return cast(FilePurpose, written)


def filename(written: str | None, param: str = "file") -> str:
    """The file's name. A path, and a name that no file system could write, are refused."""
    if not written:
        raise InvalidRequest("The file has no name. Send it with a file name.", param=param, code="invalid_filename")
    if len(written) > MAX_FILENAME:
        message = f"The file's name is longer than {MAX_FILENAME} characters. Shorten it."
        raise InvalidRequest(message, param=param, code="invalid_filename")
    if not written.isprintable() or "/" in written or "\\" in written or written in (".", ".."):
        message = "The file's name has a path or control characters in it. Send the name alone."
        raise InvalidRequest(message, param=param, code="invalid_filename")
    return written


def size(announced: int, purpose: FilePurpose) -> int:
    """The announced size in bytes, if a file of this purpose may have it. Raises `PayloadTooLarge`."""
    most = MAX_BATCH_BYTES if purpose == "batch" else MAX_BYTES
    if announced > most:
        message = f"A file with the purpose '{purpose}' may have {most} bytes at most, but 'bytes' says {announced}."
        raise PayloadTooLarge(message + (" Split it." if purpose == "batch" else ""), param="bytes")
    return announced


def expires_after(written: object, purpose: FilePurpose) -> int | None:
    """Seconds that a file is kept, from a form's `expires_after`, else by default; `None` for a file that stays."""
    if written is None:
        return BATCH_EXPIRY if purpose == "batch" else None
    try:
        return ExpiresAfter.model_validate(written).seconds
    except ValidationError as error:
        message = (
            "Invalid 'expires_after': send both 'expires_after[anchor]', which is 'created_at', and "
            f"'expires_after[seconds]', from {MIN_EXPIRY} to {MAX_EXPIRY}."
        )
        raise InvalidRequest(message, param="expires_after", code="invalid_value") from error
