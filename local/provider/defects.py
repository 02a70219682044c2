"""Defects of an account's ended batches and of their results, as providers are known to have them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Text = Literal["surrogate", "nan", "invalid_utf8", "control", "huge", "repeated_key", "escaped_key", "nested"]
_CONTENT = b'"content":"'
_RESPONSE = b'"response":{'
_BODY = b'"body":{'
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


class Defects(BaseModel):
    """Each is off by default. The counts are those of the whole batch, whatever its files hold."""

    model_config = ConfigDict(extra="forbid")

    unnamed: int = 0
    """How many retrieves of an ended batch name no file yet."""
    unnamed_errors: int = 0
    """The same for the error file alone."""
    counts: dict[str, Any] | None = None
    """The `request_counts` of an ended batch, in place of its own."""
    missing: int = 0
    """How many results are left out of the files that are written from now on."""
    repeated: int = 0
    """How many results are written twice."""
    text: Text | None = None
    """What is put into each line that a strict JSON parser refuses."""

    def shown(self, batch: dict[str, Any], *, ended: bool) -> dict[str, Any]:
        """OpenAI's batch object as this account has it."""
        if not ended:
            return batch
        changed: dict[str, Any] = {} if self.counts is None else {"request_counts": self.counts}
        if self.unnamed > 0:
            self.unnamed -= 1
            changed |= {"output_file_id": None, "error_file_id": None}
        elif self.unnamed_errors > 0:
            self.unnamed_errors -= 1
            changed["error_file_id"] = None
        return batch | changed

    def written(self, line: bytes) -> bytes:
        """A line of results as this account writes it."""
        if self.missing > 0:
            self.missing -= 1
            return b""
        if self.text is not None:
            original, defect = TEXTS[self.text]
            line = line.replace(original, defect, 1)
        if self.repeated > 0:
            self.repeated -= 1
            return line * 2
        return line
