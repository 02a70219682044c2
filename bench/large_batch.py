"""One batch past the limit of each deployment, against the same lines split by hand, through a deployed stack.

    python -m bench.large_batch [--lines N] [--limit N] [--line-bytes N] [--sides one-batch by-hand]

Four deployments take `--limit` lines each in one batch. One client sends one file and creates one batch; the other
splits the lines into files of `--limit` lines, sends each file to one deployment, and has each run as a batch. The time
is that from the first byte sent to the last byte of output read. Every line must be answered once, by its own answer,
and the provider must have run as many batches as the limit requires.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import yaml
from openai import OpenAI
from openai.types import Batch

from bench.measure import machine, table
from bench.memory import GOAL, MIB, Memory, Process, memory_table
from local.places import HOME
from local.running import Running
from local.stack import Stack

GROUP = "large-batch"
ACCOUNTS = (
    ("azure/gpt-4o-mini-general-deployment", "AZURE_API_BASE", "AZURE_API_KEY"),
    ("azure/gpt-4o-mini-special-deployment", "AZURE_API_BASE_2", "AZURE_API_KEY_2"),
    ("openai/gpt-4.1-mini", "OPENAI_PROVIDER_API_BASE", "OPENAI_PROVIDER_API_KEY"),
    ("openai/mistral-small-latest", "MISTRAL_API_BASE", "MISTRAL_API_KEY"),
)
"""The model, and the variables of address and key, of each deployment: accounts of the simulated provider."""
PART_BYTES = 4 * MIB
SECONDS = 1800
PAUSE = 0.5
ENDED = {"completed", "failed", "expired", "cancelled"}


@dataclass
class Side:
    """The seconds of each step of one side, and the memory of each process."""

    seconds: dict[str, float] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def grown(self) -> int:
        """The most bytes that a process took more than before."""
        return max(one.grown for one in self.processes)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


class Lines:
    """The lines of the file: numbered requests of about so many bytes."""

    def __init__(self, count: int, line_bytes: int) -> None:
        self.count = count
        bare = len(self._line(0, GROUP, ""))
        self._text = " " + "x" * max(0, line_bytes - bare - 1)

    def write(self, path: Path, model: str, numbers: range) -> Path:
        """The file with these lines, for this model group."""
        with path.open("wb") as file:
            file.writelines(self._line(number, model, self._text) for number in numbers)
        return path

    def _line(self, number: int, model: str, text: str) -> bytes:
        body = {"model": model, "messages": [{"role": "user", "content": f"{number:07}{text}"}]}
        line = {"custom_id": f"request-{number:07}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        return orjson.dumps(line) + b"\n"


class Answers:
    """Counts the answers of each line."""

    def __init__(self, lines: int) -> None:
        self._seen = bytearray(lines)

    def read(self, client: OpenAI, batch: Batch) -> None:
        """Count the answers in the batch's output."""
        assert batch.output_file_id is not None, batch
        with client.files.with_streaming_response.content(batch.output_file_id) as response:
            for line in _split(response.iter_bytes(MIB)):
                answer = orjson.loads(line)
                self.count(answer["custom_id"], answer["response"]["body"]["choices"][0]["message"]["content"])

    def count(self, custom_id: str, text: str) -> None:
        """Count one answer. Raises `AssertionError` if it is not its line's."""
        number = custom_id.removeprefix("request-")
        assert number in text, f"{custom_id} was answered {text}"
        self._seen[int(number)] += 1

    def check(self) -> None:
        """Raise `AssertionError` unless every line was answered once."""
        wrong = [number for number, times in enumerate(self._seen) if times != 1]
        assert not wrong, f"{len(wrong)} lines were not answered once, such as {wrong[:5]}"


class Comparison:
    """Runs both sides on a running stack."""

    def __init__(self, stack: Running, lines: Lines, limit: int) -> None:
        self._stack = stack
        self._lines = lines
        self._limit = limit
        self._client = OpenAI(base_url=stack.base_url, api_key=stack.api_key, timeout=120)

    def one_batch(self) -> Side:
        """The side of a client with one file and one batch."""
        return self._measured(lambda path: [self._lines.write(path / "all.jsonl", GROUP, range(self._lines.count))])

    def by_hand(self) -> Side:
        """The side of a client that splits the file, and sends each part to one deployment."""
        return self._measured(lambda path: list(self._split(path)))

    def _split(self, directory: Path) -> Iterator[Path]:
        for number, start in enumerate(range(0, self._lines.count, self._limit)):
            part = range(start, min(start + self._limit, self._lines.count))
            model = f"{GROUP}-{number % len(ACCOUNTS)}"
            yield self._lines.write(directory / f"part-{number}.jsonl", model, part)

    def _measured(self, files: Callable[[Path], Sequence[Path]]) -> Side:
        side, memory = Side(), Memory(self._stack.aws_url)
        with tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
            paths = files(Path(directory))
            before = self._jobs()
            with memory.sampled():
                self._run(side, paths)
        side.processes = memory.processes
        jobs, least = self._jobs() - before, math.ceil(self._lines.count / self._limit)
        assert jobs == least, f"{jobs} batches at the provider, not {least}"
        return side

    def _jobs(self) -> int:
        """How many batches the provider has created."""
        url, parameters = f"{self._stack.provider_url}/control/log", {"route": "batches.create"}
        return len(httpx.get(url, params=parameters, timeout=120).raise_for_status().json())

    def _run(self, side: Side, paths: Sequence[Path]) -> None:
        with side.step("sent, created"):
            batches = [self._create(self._upload(path)) for path in paths]
        with side.step("until all have ended"):
            batches = self._ended(batches)
        answers = Answers(self._lines.count)
        with side.step("output read"):
            for batch in batches:
                answers.read(self._client, batch)
        answers.check()
        assert all(batch.error_file_id is None for batch in batches), batches

    def _upload(self, path: Path) -> str:
        """Send a file in parts; its id. A complete is repeated until a worker has joined the parts."""
        about = {"filename": path.name, "bytes": path.stat().st_size, "mime_type": "application/jsonl"}
        upload = self._client.uploads.create(purpose="batch", **about)  # type: ignore[arg-type]
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(PART_BYTES), b"")
            parts = [self._client.uploads.parts.create(upload.id, data=chunk).id for chunk in chunks]
        while upload.status == "pending":
            upload = self._client.uploads.complete(upload.id, part_ids=parts)
        assert upload.file is not None, upload
        return upload.file.id

    def _create(self, file_id: str) -> Batch:
        return self._client.batches.create(
            input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )

    def _ended(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches when all of them have completed."""
        deadline = time.monotonic() + SECONDS
        ended: list[Batch] = []
        for batch in batches:
            while batch.status not in ENDED:
                assert time.monotonic() < deadline, batch
                time.sleep(PAUSE)
                batch = self._client.batches.retrieve(batch.id)
            assert batch.status == "completed", batch
            ended.append(batch)
        return ended


def _split(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines in these bytes."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    assert not rest, "the output's last line is not whole"


def configuration(limit: int) -> str:
    """A `config.yaml`: one group of four deployments, and each of them as a group of its own."""
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": model,
                "api_base": f"os.environ/{base}",
                "api_key": f"os.environ/{key}",
                "max_batch_requests": limit,
            },
            "model_info": {"id": f"{name}-{number}-deployment", "mode": "batch"},
        }
        for number, (model, base, key) in enumerate(ACCOUNTS)
        for name in (GROUP, f"{GROUP}-{number}")
    ]
    return yaml.safe_dump({"model_list": models, "general_settings": {"master_key": "os.environ/MANIFOLD_MASTER_KEY"}})


def compare(lines: Lines, limit: int, sides: Sequence[str]) -> dict[str, Side]:
    """Run these sides on a stack of their own, after a batch of a few lines."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
        config = Path(directory) / "config.yaml"
        config.write_text(configuration(limit))
        with Stack(HOME / "bench-stack", config, simulated=True, given={}) as stack:
            stack.aws.invoke(stack.outputs["BatchesPollerName"], {})
            Comparison(stack, Lines(8, 200), 2).by_hand()
            comparison = Comparison(stack, lines, limit)
            run = {"one-batch": comparison.one_batch, "by-hand": comparison.by_hand}
            return {name: run[name]() for name in sides}


def report(sides: Mapping[str, Side]) -> str:
    """The time of each step, and the memory of each process of the first side."""
    [first, *_] = sides.values()
    rows = [
        [name, *(f"{seconds:.1f}" for seconds in (*side.seconds.values(), side.total))] for name, side in sides.items()
    ]
    parts = [table(["", *first.seconds, "total, s"], rows)]
    if len(sides) > 1:
        parts.append(f"{first.total / list(sides.values())[1].total:.2f} times as long as by hand")
    return "\n\n".join([*parts, memory_table(first.processes)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.large_batch", description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--limit", type=int, default=2_500, help="lines that a deployment takes in one batch")
    parser.add_argument("--line-bytes", type=int, default=200)
    parser.add_argument("--sides", nargs="+", choices=("one-batch", "by-hand"), default=("one-batch", "by-hand"))
    args = parser.parse_args()
    print(f"{args.lines:,} lines of about {args.line_bytes} bytes over four deployments that take {args.limit:,} each.")
    print(f"{machine()}.\n", flush=True)
    sides = compare(Lines(args.lines, args.line_bytes), args.limit, args.sides)
    print(report(sides))
    return int(next(iter(sides.values())).grown > GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
