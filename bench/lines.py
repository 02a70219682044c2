"""The speed of the line engine, compared with a plain read of the file, orjson and LiteLLM on the same lines.

    python -m bench.lines [--megabytes N] [--rounds N]

The lines are chats of some 4 KB as programs write them, by `json.dumps`, in the usual order of their members and in
others. Every measure runs once a round, in processor
time, and the median counts, so that other load affects all alike. Three goals: the check at 0.8 times the
speed of `orjson.loads` alone, the rewrite at twice that of `orjson.loads` and `dumps`, and at six times LiteLLM's.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import median

import orjson

from bench.measure import Measure, machine, processor, table
from bench.peer import litellm_rewrite
from bench.replication import replicated
from manifold.jsonl.check import Check
from manifold.jsonl.report import Report
from manifold.jsonl.rewrite import Rewrite

CHUNK_BYTES = 1024 * 1024
MODEL = "gpt-4o-mini-batch-westeurope"
PEER = "LiteLLM's rewrite"

_PHRASES = (
    "The quarterly report shows that revenue grew by 12.5% year over year, driven mostly by the EMEA region. ",
    "Please summarise the following ticket in two sentences and say whether it's urgent:\n",
    "> Customer wrote: \"the app crashes when I tap 'Save'\"\n",
    "- Steps to reproduce: open settings, toggle “dark mode”, close.\n",
    '```python\nfor row in rows:\n    print(row["name"], row["total"])\n```\n',
    'Answer with JSON: {"label": "…", "confidence": 0.5}.\n\n',
    "Le café était fermé; naïvement, nous avons attendu. ",
    "It was, as far as anybody could tell, an ordinary Tuesday: the servers hummed, and the logs scrolled by. ",
)
_OPTIONS = {"temperature": 0.7, "max_tokens": 512}
_TOOLS = [{"type": "function", "function": {"name": name}} for name in ("look_up", "write_down", "ask_somebody")]


@dataclass(frozen=True, slots=True)
class File:
    """One file in the three forms that the measures read."""

    data: bytes
    lines: Sequence[bytes]
    chunks: Sequence[bytes]

    @classmethod
    def of(cls, size: int, line: "Line") -> "File":
        lines = list(_lines(size, line))
        data = b"".join(lines)
        return cls(data, lines, [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)])


Members = dict[str, object]
Line = Callable[[str, Random], Members]
"""A request with this `custom_id`."""


def usual(custom_id: str, random: Random) -> Members:
    """As most programs write it: the model first."""
    return _request(custom_id, {"model": "gpt-4o-mini", "messages": _messages(random), **_OPTIONS})


def model_last(custom_id: str, random: Random) -> Members:
    return _request(custom_id, {"messages": _messages(random), **_OPTIONS, "model": "gpt-4o-mini"})


def model_between(custom_id: str, random: Random) -> Members:
    return _request(custom_id, {"messages": _messages(random), "model": "gpt-4o-mini", "tools": _TOOLS})


def model_nested_before(custom_id: str, random: Random) -> Members:
    """A search from the front finds another `model` first."""
    body = {"metadata": {"model": "x"}, "messages": _messages(random), "model": "gpt-4o-mini"}
    return _request(custom_id, body)


def body_first(custom_id: str, random: Random) -> Members:
    return dict(reversed(usual(custom_id, random).items()))


def keys_sorted(custom_id: str, random: Random) -> Members:
    """As `json.dumps(…, sort_keys=True)` writes it."""
    whole: Members = json.loads(json.dumps(usual(custom_id, random), sort_keys=True))
    return whole


ORDERS: Mapping[str, Line] = {
    "model first": usual,
    "model last": model_last,
    "model between": model_between,
    "model last, one nested before": model_nested_before,
    "body first": body_first,
    "keys sorted": keys_sorted,
}


def measures(file: File, path: Path, end: ExitStack) -> Mapping[str, Measure]:
    """The measures to compare; `path` is the file on the disk. LiteLLM is left out if it is not installed."""
    report = _check(file)
    each = {
        "read the file": processor(lambda: _read(path)),
        "read lines": processor(lambda: _all(BytesIO(file.data))),
        "orjson.loads": processor(lambda: _all(map(orjson.loads, file.lines))),
        "orjson.loads + dumps": processor(lambda: _all(map(orjson.dumps, map(orjson.loads, file.lines)))),
        "check": processor(lambda: _check(file)),
        "rewrite": processor(lambda: _rewrite(file, report)),
        "replicate": end.enter_context(replicated(path, report, MODEL)),
    }
    peer = end.enter_context(litellm_rewrite(path, MODEL))
    return {**each, PEER: peer} if peer else each


def times(each: Mapping[str, Measure], rounds: int) -> dict[str, float]:
    """Median processor seconds of each measure; one more round before warms up."""
    durations: dict[str, list[float]] = {name: [] for name in each}
    for _ in range(rounds + 1):
        for name, measure in each.items():
            durations[name].append(measure())
    return {name: median(seconds[1:]) for name, seconds in durations.items()}


def report(file: File, rounds: int) -> str:
    durations = _times(file, rounds)
    beside = [name for name in ("orjson.loads", "orjson.loads + dumps", PEER) if name in durations]
    rows = [
        [name, f"{len(file.data) / seconds / 1e6:.0f}", *(f"{durations[other] / seconds:.2f}" for other in beside)]
        for name, seconds in durations.items()
    ]
    return table(["", "MB/s", *(f"to {other}" for other in beside)], rows)


def orders(size: int, rounds: int) -> str:
    """The three goals for each order of a line's members."""
    goals = (("check", "orjson.loads"), ("rewrite", "orjson.loads + dumps"), ("rewrite", PEER))
    rows = []
    for name, line in ORDERS.items():
        durations = _times(File.of(size, line), rounds)
        ratios = (f"{durations[other] / durations[ours]:.2f}" if other in durations else "" for ours, other in goals)
        rows.append([name, *ratios])
    return table(["", *(f"{ours} to {other}" for ours, other in goals)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.lines", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(machine())
    size = args.megabytes * 1_000_000
    file = File.of(size, usual)
    print(f"\n{len(file.lines)} lines, {len(file.data) / len(file.lines):.0f} bytes each, the model first")
    print(report(file, args.rounds))
    print("\nthe members in other orders")
    print(orders(size // 4, args.rounds))


def _times(file: File, rounds: int) -> dict[str, float]:
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as copy, ExitStack() as end:
        copy.write(file.data)
        copy.flush()
        return times(measures(file, Path(copy.name), end), rounds)


def _lines(size: int, line: Line) -> Iterator[bytes]:
    random = Random(2)
    number = written = 0
    while written < size:
        number += 1
        text = json.dumps(line(f"request-{number}", random)).encode() + b"\n"
        written += len(text)
        yield text


def _request(custom_id: str, body: Mapping[str, object]) -> Members:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def _messages(random: Random) -> list[dict[str, str]]:
    sizes = {"system": 400, "user": 2000, "assistant": 1300}
    return [{"role": role, "content": _text(random, size)} for role, size in sizes.items()]


def _text(random: Random, size: int) -> str:
    text = ""
    while len(text) < size:
        text += random.choice(_PHRASES)
    return text


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(CHUNK_BYTES):
            pass


def _all(values: Iterator[object]) -> None:
    for _ in values:
        pass


def _check(file: File) -> Report:
    check = Check(max_lines=1_000_000)
    for chunk in file.chunks:
        check.feed(chunk)
    return check.finish()


def _rewrite(file: File, report: Report) -> None:
    rewrite = Rewrite(MODEL, report)
    written = sum(len(rewrite.feed(chunk)) for chunk in file.chunks) + len(rewrite.finish())
    if written != report.rewritten_bytes(MODEL):
        raise AssertionError(f"{written} bytes were written, {report.rewritten_bytes(MODEL)} were promised")


if __name__ == "__main__":
    main()
