"""Batch input files, line by line: one streaming pass that checks, one that rewrites `body.model`.

    check = Check()                              rewrite = Rewrite("my-deployment", report)
    for chunk in chunks: check.feed(chunk)       for chunk in chunks: out(rewrite.feed(chunk))
    report = check.finish()                      out(rewrite.finish())

Both are pure (bytes in, values out) and hold one line and one chunk at a time, whatever the file. A line ends with
`\n`; the `\r` before it, blank lines and a missing last newline are kept as they are. `manifold.jsonl.result` reads the
lines of a provider's result file; `byte_range` and `selected` read a range of a file's requests.
"""

from manifold.jsonl.check import Check
from manifold.jsonl.custom_ids import CustomIds, custom_id_checksum
from manifold.jsonl.lines import MAX_LINE_BYTES
from manifold.jsonl.report import Block, LineError, Report, UrlUse
from manifold.jsonl.rewrite import Rewrite
from manifold.jsonl.selected_lines import ByteRange, byte_range, selected

__all__ = [
    "MAX_LINE_BYTES",
    "Block",
    "ByteRange",
    "Check",
    "CustomIds",
    "LineError",
    "Report",
    "Rewrite",
    "UrlUse",
    "byte_range",
    "custom_id_checksum",
    "selected",
]
