"""Batch input files, line by line: one streaming pass that checks, one that rewrites `body.model`.

    check = Check()                              rewrite = Rewrite("my-deployment", report)
    for chunk in chunks: check.feed(chunk)       for chunk in chunks: out(rewrite.feed(chunk))
    report = check.finish()                      out(rewrite.finish())

Both are pure (bytes in, values out) and hold one line and one chunk at a time, whatever the file. A line ends with
`\n`; the `\r` before it, blank lines and a missing last newline are kept as they are. `manifold.jsonl.result` reads the
lines of a provider's result file; `byte_range` and `selected` read a range of a file's requests.
"""
