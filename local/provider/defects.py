"""Defects of jobs and of their results, as providers are known to have them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from local.provider.line_faults import LineFault

Text = Literal["surrogate", "nan", "invalid_utf8", "control", "huge", "repeated_key", "escaped_key", "nested"]
_CONTENT = b'"content":"'
_RESPONSE = b'"response":{'
_BODY = b'"body":{'
_CUSTOM_ID = b'"custom_id":"'
TEXTS: dict[Text, tuple[bytes, bytes]] = {
    "surrogate": (_CONTENT, _CONTENT + rb"\ud83d "),
    "nan": (_BODY, _BODY + b'"score":NaN,"bound":-Infinity,'),
    "invalid_utf8": (_CONTENT, _CONTENT + b"\xff\xc3("),
    "control": (_CONTENT, _CONTENT + b"\x01"),
    "huge": (_BODY, _BODY + b'"seed":' + b"9" * 5000 + b","),
    "repeated_key": (_RESPONSE, _RESPONSE + b'"status_code":200,'),
    "escaped_key": (b'"model":', rb'"mod\u0065l":'),
    "nested": (_BODY, _BODY + b'"deep":' + b"[" * 2000 + b"]" * 2000 + b","),
}


class Ending(BaseModel):
    """How a job ends, in place of being completed: once it was retrieved or listed more than `polls` times, and is
    `seconds` old by the provider's clock. Until then it does not leave `in_progress`."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["failed", "expired", "cancelled", "gone"]
    """`cancelled` without a request, as at a provider's console; `gone`: each later call for it is a 404."""
    polls: int = 0
    seconds: float = 0.0
    answered: int = 0
    """The lines that are answered before, and are in the files. A job that fails with none fails at its validation."""
    code: str = "internal_error"
    """Of the error of a job that failed: the provider's fault (`internal_error`, `capacity`, `token_limit_exceeded`) or
    the input's (`invalid_json_line`, `mismatched_model`)."""
    message: str = "The simulated provider was told to do this."
    line: int | None = None

    def error(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "param": None, "line": self.line}


class Defects(BaseModel):
    """Each is off by default. The counts are those of the whole batch, whatever its files hold."""

    model_config = ConfigDict(extra="forbid")

    unnamed: int = 0
    """How many retrieves of an ended batch name no file yet."""
    unnamed_errors: int = 0
    """The same for the error file alone."""
    counts: dict[str, Any] | None = None
    """The `request_counts` of an ended batch, in place of its own."""
    late_counts: bool = False
    """The `request_counts` are zero until the batch has ended."""
    text_counts: bool = False
    """The numbers of `request_counts` are strings."""
    stall: str | None = None
    """The state that the batch does not leave."""
    ending: Ending | None = None
    lines: LineFault | None = None
    """The lines that fail."""
    missing: int = 0
    """How many results are left out of the files that are written from now on."""
    repeated: int = 0
    """How many results are written twice."""
    misnamed: int = 0
    """How many results have a `custom_id` that no request has."""
    anonymous: int = 0
    """How many results have no `custom_id`."""
    shuffled: bool = False
    """Whether each file's results are in a random order, always the same for as many of them."""
    text: Text | None = None
    """What is put into each line that a strict JSON parser refuses."""

    def shown(self, batch: dict[str, Any], *, ended: bool) -> dict[str, Any]:
        """OpenAI's batch object as this account has it."""
        changed = self._counts(batch["request_counts"], ended=ended)
        if not ended:
            return batch | changed
        if self.unnamed > 0:
            self.unnamed -= 1
            changed |= {"output_file_id": None, "error_file_id": None}
        elif self.unnamed_errors > 0:
            self.unnamed_errors -= 1
            changed["error_file_id"] = None
        return batch | changed

    def _counts(self, counts: dict[str, Any], *, ended: bool) -> dict[str, Any]:
        if ended and self.counts is not None:
            counts = self.counts
        elif self.late_counts and not ended:
            counts = dict.fromkeys(counts, 0)
        if self.text_counts:
            counts = {name: str(count or 0) for name, count in counts.items()}
        return {"request_counts": counts}

    def written(self, line: bytes) -> bytes:
        """A line of results as this account writes it."""
        if self.missing > 0:
            self.missing -= 1
            return b""
        if self.text is not None:
            original, defect = TEXTS[self.text]
            line = line.replace(original, defect, 1)
        if self.misnamed > 0:
            self.misnamed -= 1
            line = line.replace(_CUSTOM_ID, _CUSTOM_ID + b"no-request-", 1)
        elif self.anonymous > 0:
            self.anonymous -= 1
            line = line.replace(_CUSTOM_ID, b'"unnamed":"', 1)
        if self.repeated > 0:
            self.repeated -= 1
            return line * 2
        return line
