"""The speed of the line engine, beside a plain read of the file, orjson and LiteLLM, on the same lines in the same run.

    python -m bench.lines [--megabytes N] [--rounds N]

The lines are chats of some 4 KB as programs write them, by `json.dumps`. Every measure runs once a round, timed by the
processor, and what counts is the median; so a neighbour's load hits all alike. Three goals: the check at 0.8 times the
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
from bench.replication import replicated
from bench.rival import litellm_rewrite
from manifold.jsonl import Check, Report, Rewrite

CHUNK_BYTES = 1024 * 1024
MODEL = "gpt-4o-mini-batch-westeurope"
RIVAL = "LiteLLM's rewrite"

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


@dataclass(frozen=True, slots=True)
class File:
    """One file in the three shapes that the measures read."""

    data: bytes
    lines: Sequence[bytes]
    chunks: Sequence[bytes]

    @classmethod
    def of(cls, size: int, body: Callable[[Random], dict[str, object]]) -> "File":
        lines = list(_lines(size, body))
        data = b"".join(lines)
        return cls(data, lines, [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)])


def chat(random: Random) -> dict[str, object]:
    """What most lines look like: the model first."""
    return {"model": "gpt-4o-mini", "messages": _messages(random), "temperature": 0.7, "max_tokens": 512}


def model_last(random: Random) -> dict[str, object]:
    """As some programs write it; here the engine has to search each line."""
    return {"messages": _messages(random), "max_tokens": 512, "model": "gpt-4o-mini"}


def measures(file: File, path: Path, end: ExitStack) -> Mapping[str, Measure]:
    """What is compared; `path` is the file on the disk. LiteLLM is left out where it is not installed."""
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
    rival = end.enter_context(litellm_rewrite(path, MODEL))
    return {**each, RIVAL: rival} if rival else each


def times(each: Mapping[str, Measure], rounds: int) -> dict[str, float]:
    """Median processor seconds of each measure; one round more goes before, to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in each}
    for _ in range(rounds + 1):
        for name, measure in each.items():
            taken[name].append(measure())
    return {name: median(seconds[1:]) for name, seconds in taken.items()}


def report(file: File, rounds: int) -> str:
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as copy, ExitStack() as end:
        copy.write(file.data)
        copy.flush()
        taken = times(measures(file, Path(copy.name), end), rounds)
    beside = [name for name in ("orjson.loads", "orjson.loads + dumps", RIVAL) if name in taken]
    rows = [
        [name, f"{len(file.data) / seconds / 1e6:.0f}", *(f"{taken[other] / seconds:.2f}" for other in beside)]
        for name, seconds in taken.items()
    ]
    return table(["", "MB/s", *(f"to {other}" for other in beside)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.lines", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    print(machine())
    for title, body in {"chats": chat, "chats with the model last": model_last}.items():
        file = File.of(given.megabytes * 1_000_000, body)
        print(f"\n{title}: {len(file.lines)} lines, {len(file.data) / len(file.lines):.0f} bytes each")
        print(report(file, given.rounds))


def _lines(size: int, body: Callable[[Random], dict[str, object]]) -> Iterator[bytes]:
    random = Random(2)
    number = written = 0
    while written < size:
        number += 1
        request = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions"}
        line = json.dumps({**request, "body": body(random)}).encode() + b"\n"
        written += len(line)
        yield line


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
    rewrite = Rewrite(MODEL, common=report.common)
    written = sum(len(rewrite.feed(chunk)) for chunk in file.chunks) + len(rewrite.finish())
    if written != report.rewritten_bytes(MODEL):
        raise AssertionError(f"{written} bytes were written, {report.rewritten_bytes(MODEL)} were promised")


if __name__ == "__main__":
    main()
