"""The Avro container files of Cohere's output datasets: https://avro.apache.org/docs/1.12.0/specification/

A row has `custom_id`, `error` (a text, empty where there is none) and `body`, which is `null` where there is an error.
"""

import json
import secrets
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import fastavro

from local.provider.native.cohere_rows import CHAT, EMBED

PARTS = 2


def _record(title: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": title, "fields": [{"name": key, "type": kind} for key, kind in fields.items()]}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_UNITS = _record("Units", input_tokens="double", output_tokens="double")
_CALL = _record(
    "ToolCall", id="string", type="string", function=_record("CalledFunction", name="string", arguments="string")
)
_MESSAGE = _record(
    "Message",
    role="string",
    content=["null", _list(_record("Content", type="string", text=["null", "string"]))],
    tool_plan=["null", "string"],
    tool_calls=["null", _list(_CALL)],
)
_LOGPROB = _record("Logprob", text="string", token_ids=_list("long"), logprobs=_list("double"))
_CHAT = _record(
    "ChatResponse",
    id="string",
    finish_reason="string",
    message=_MESSAGE,
    usage=_record("Usage", billed_units=_UNITS, tokens="Units", cached_tokens=["null", "double"]),
    logprobs=["null", _list(_LOGPROB)],
)
_META = _record(
    "Meta",
    api_version=_record("ApiVersion", version="string"),
    billed_units=_record("BilledUnits", input_tokens="double"),
)
_EMBED = _record(
    "EmbedResponse",
    id="string",
    embeddings=_record("Embeddings", float=["null", _list(_list("double"))], int8=["null", _list(_list("int"))]),
    texts=_list("string"),
    meta=_META,
)
SCHEMAS = {
    kind: fastavro.parse_schema(_record("Row", custom_id="string", error="string", body=["null", body]))
    for kind, body in {CHAT: _CHAT, EMBED: _EMBED}.items()
}


def write_parts(kind: str, lines: Path, rows: int, directory: Path) -> Iterator[tuple[Path, int]]:
    """The JSON lines of this file as container files, and how many rows each has: two files, if there are two rows."""
    with lines.open("rb") as source:
        while part := list(islice(source, max(1, -(-rows // PARTS)))):
            target = directory / f"{lines.name}-{secrets.token_hex(4)}.avro"
            with target.open("wb") as file:
                fastavro.writer(file, SCHEMAS[kind], map(_row, part), codec="null")
            yield target, len(part)


def _row(line: bytes) -> dict[str, Any]:
    """A `custom_id` that the line lacks is empty. The defects of JSON, which Avro cannot hold, are left out."""
    text = line.replace(rb"\ud83d", b"?").decode(errors="replace")
    row = json.loads(text, strict=False, parse_int=lambda digits: int(digits[:18]))
    return {"custom_id": row.get("custom_id", ""), "error": row["error"], "body": row["body"]}
