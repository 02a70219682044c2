"""The fields of a create, as forms, queries and headers spell them."""

from typing import cast, get_args

from pydantic import ValidationError

from manifold.errors import InvalidRequest, PayloadTooLarge
from manifold.schemas import MAX_EXPIRY, MIN_EXPIRY, ExpiresAfter, FilePurpose

MAX_FILENAME = 255
"""Characters."""
MAX_BYTES, MAX_BATCH_BYTES = 512 * 1024 * 1024, 200 * 1024 * 1024
"""Of a file, and of one with the purpose `batch`: OpenAI's limits."""
BATCH_EXPIRY = 2_592_000
"""Seconds until a purpose=batch file expires, where the client sets nothing: OpenAI's thirty days."""
PRODUCED: frozenset[FilePurpose] = frozenset({"assistants_output", "batch_output", "fine-tune-results"})
"""Purposes of files that are made for the client, never by it."""
PURPOSES = tuple(sorted(frozenset(get_args(FilePurpose)) - PRODUCED))


def purpose(written: str | None) -> FilePurpose:
    """A purpose that a client's file may have."""
    if not written:
        raise InvalidRequest(
            "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )
    if written not in PURPOSES:
        message = f"Invalid value for 'purpose': '{written[:50]}'. Use one of {', '.join(PURPOSES)}."
        raise InvalidRequest(message, param="purpose", code="invalid_value")
    return cast(FilePurpose, written)


def filename(written: str | None, param: str = "file") -> str:
    """The user's own name of a file; a path, or a name that no system could write, is refused."""
    if not written:
        raise InvalidRequest("The file has no name. Send it with a file name.", param=param, code="invalid_filename")
    if len(written) > MAX_FILENAME:
        message = f"The file's name is longer than {MAX_FILENAME} characters. Shorten it."
        raise InvalidRequest(message, param=param, code="invalid_filename")
    if not written.isprintable() or "/" in written or "\\" in written or written in (".", ".."):
        message = "The file's name has a path or control characters in it. Send the bare name."
        raise InvalidRequest(message, param=param, code="invalid_filename")
    return written


def size(announced: int, purpose: FilePurpose) -> int:
    """The bytes that a file of this purpose may have."""
    most = MAX_BATCH_BYTES if purpose == "batch" else MAX_BYTES
    if announced > most:
        message = f"A file with the purpose '{purpose}' may have {most} bytes at most, but 'bytes' says {announced}."
        raise PayloadTooLarge(message + (" Split it." if purpose == "batch" else ""), param="bytes")
    return announced


def expires_after(written: object, purpose: FilePurpose) -> int | None:
    """The seconds that a file is kept, from a form's `expires_after`; `None` if there is no such field."""
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
