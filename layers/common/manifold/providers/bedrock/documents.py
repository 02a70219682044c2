"""Translates files into Converse's documents.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from manifold.providers.content_parts import PDF, Document, invalid_value

Object = dict[str, Any]

FORMATS: Mapping[str, str] = {
    PDF: "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9\-()\[\]]+")
MAX_NAME = 200
DEFAULT_NAME = "document"


def document_block(document: Document) -> Object:
    """The content block of a file. `InvalidRequest` if Bedrock does not accept its media type."""
    document_format = FORMATS.get(document.media_type)
    if document_format is None:
        raise invalid_value(f"{document.path}.file_data", f"must be one of {', '.join(FORMATS)}")
    return {"document": {"format": document_format, "name": _name(document.name), "source": {"bytes": document.data}}}


class Documents:
    """The documents of one conversation. Bedrock demands that each has another name, and that a text is beside them."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def valid(self, content: Sequence[Object]) -> list[Object]:
        """A message's content, with unique names of documents and a text beside them."""
        named = [self._named(block) for block in content]
        names = [block["document"]["name"] for block in named if "document" in block]
        has_text = not names or any("text" in block for block in named)
        return named if has_text else [*named, {"text": ", ".join(names)}]

    def _named(self, block: Object) -> Object:
        if "document" not in block:
            return block
        name = block["document"]["name"]
        self._seen[name] += 1
        number = self._seen[name]
        return block if number == 1 else {"document": {**block["document"], "name": f"{name} ({number})"}}


def _name(name: str | None) -> str:
    """The name with only the characters that Bedrock accepts: letters, digits, single spaces, hyphens and brackets."""
    return NOT_IN_A_NAME.sub(" ", name or "").strip()[: MAX_NAME - 10] or DEFAULT_NAME
