"""Defects of jobs and of their results, as providers are known to have them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from local.provider.line_faults import LineFault
from local.provider.line_shape import Marks

Text = Literal["surrogate", "nan", "invalid_utf8", "control", "huge", "repeated_key", "escaped_key", "nested"]
WITHIN_CONTENT: dict[Text, bytes] = {"surrogate": rb"\ud83d ", "invalid_utf8": b"\xff\xc3(", "control": b"\x01"}
WITHIN_BODY: dict[Text, bytes] = {
    "nan": b'"score":NaN,"bound":-Infinity,',
    "huge": b'"seed":' + b"9" * 5000 + b",",
    "nested": b'"deep":' + b"[" * 2000 + b"]" * 2000 + b",",
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

    unseen: int = 0
    """How many retrieves of the batch do not find it yet; until then, lists do not have it."""
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
        """OpenAI's batch object as this account has it; of another provider's, these members by OpenAI's names."""
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

    def written(self, line: bytes, marks: Marks) -> bytes:
        """A line of results as this account writes it."""
        if self.missing > 0:
            self.missing -= 1
            return b""
        if self.text is not None:
            # What is before the response may be the request.
            at = max(line.find(marks.response), 0)
            line = line[:at] + line[at:].replace(*text_defect(self.text, marks), 1)
        if self.misnamed > 0:
            self.misnamed -= 1
            line = line.replace(marks.id, marks.id + b"no-request-", 1)
        elif self.anonymous > 0:
            self.anonymous -= 1
            line = line.replace(marks.id, b'"unnamed":"', 1)
        if self.repeated > 0:
            self.repeated -= 1
            return line * 2
        return line


def text_defect(text: Text, marks: Marks) -> tuple[bytes, bytes]:
    """What a result line has, and what it has in place of that."""
    if text == "escaped_key":
        return b'"model":', rb'"mod\u0065l":'
    if text == "repeated_key":
        return marks.response, marks.response + marks.first_member
    mark = marks.content if text in WITHIN_CONTENT else marks.body
    return mark, mark + (WITHIN_CONTENT | WITHIN_BODY)[text]
