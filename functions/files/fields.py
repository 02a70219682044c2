"""The fields of a create, as forms, queries and headers spell them."""

from collections.abc import Mapping
from typing import cast, get_args

from pydantic import ValidationError

from manifold.errors import InvalidRequest
from manifold.schemas import MAX_EXPIRY, MIN_EXPIRY, ExpiresAfter, FilePurpose

MAX_FILENAME = 255
"""Characters."""
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


def filename(written: str | None) -> str:
    """The user's own name of a file; a path, or a name that no system could write, is refused."""
    if not written:
        raise InvalidRequest("The file has no name. Send it with a file name.", param="file", code="invalid_filename")
    if len(written) > MAX_FILENAME:
        message = f"The file's name is longer than {MAX_FILENAME} characters. Shorten it."
        raise InvalidRequest(message, param="file", code="invalid_filename")
    if not written.isprintable() or "/" in written or "\\" in written or written in (".", ".."):
        message = "The file's name has a path or control characters in it. Send the bare name."
        raise InvalidRequest(message, param="file", code="invalid_filename")
    return written


def expires_after(form: Mapping[str, str], purpose: FilePurpose) -> int | None:
    """The seconds that a file is kept, from the form's `expires_after[anchor]` and `expires_after[seconds]`."""
    written = {key: form[f"expires_after[{key}]"] for key in ("anchor", "seconds") if form.get(f"expires_after[{key}]")}
    if not written:
        return BATCH_EXPIRY if purpose == "batch" else None
    try:
        return ExpiresAfter.model_validate(written).seconds
    except ValidationError as error:
        message = (
            "Invalid 'expires_after': send both 'expires_after[anchor]', which is 'created_at', and "
            f"'expires_after[seconds]', from {MIN_EXPIRY} to {MAX_EXPIRY}."
        )
        raise InvalidRequest(message, param="expires_after", code="invalid_value") from error
