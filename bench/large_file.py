"""A large file through a deployed stack by the OpenAI SDK: sent to two deployments, run, and its output fetched.

    python -m bench.large_file [--megabytes N] [--lines N]

It starts a stack of its own, as `make up` does. It measures the memory of each function's process, before the file and
at its peak, and checks that each provider got exactly the lines with its own model.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI
from openai.types import Batch, FileObject

from bench.measure import machine, table
from bench.memory import GOAL, MIB, Memory, Process, memory_table
from local.places import HOME
from local.running import Running
from local.stack import Stack

GROUP = "gpt-4o-batch"
MODELS = {"azure-general": "gpt-4o-mini-general-deployment", "azure-special": "gpt-4o-mini-special-deployment"}
"""The accounts behind the group in the shipped configuration, and the model of each."""
PART_BYTES = 4 * MIB
SECONDS = 900
PHRASE = 'Où est passé l\'été ? "Là-bas", dit-elle.\n'
ENDED = {"completed", "failed", "expired", "cancelled"}


@dataclass
class FileRun:
    """One file's run through the stack: the seconds of each step, and the memory of each process."""

    bytes: int
    lines: int
    seconds: dict[str, float] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def report(self) -> str:
        steps = [[name, f"{taken:.1f}", f"{self.bytes / taken / 1e6:.1f}"] for name, taken in self.seconds.items()]
        return "\n".join([
            f"{self.lines} lines, {self.bytes / 1e6:.1f} MB",
            table(["", "s", "MB/s"], steps),
            "",
            memory_table(self.processes),
        ])  # fmt: skip


def run_large_file(stack: Running, size: int, lines: int) -> FileRun:
    """Send a small file, then one of this size. Raises `AssertionError` if anything is lost or changed."""
    stack.aws.invoke(stack.outputs["BatchesPollerName"], {})
    _pass(stack, 40_000, 10)
    memory = Memory(stack.aws_url)
    with memory.sampled():
        run = _pass(stack, size, lines)
    run.processes = memory.processes
    return run


def _pass(stack: Running, size: int, lines: int) -> FileRun:
    client = OpenAI(base_url=stack.base_url, api_key=stack.api_key, timeout=120)
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as made:
        run = FileRun(_write(Path(made.name), GROUP, size, lines), lines)
        with run.step("upload_file_chunked"):
            upload = client.uploads.upload_file_chunked(
                file=Path(made.name), mime_type="application/jsonl", purpose="batch", part_size=PART_BYTES
            )
    assert upload.file is not None, upload
    with run.step("to two deployments"):
        _await_inputs(client, upload.file)
    _check_copies(stack, size, lines)
    with run.step("the batch"):
        batch = _await_end(client, client.batches.create(
            input_file_id=upload.file.id, endpoint="/v1/chat/completions", completion_window="24h"
        ))  # fmt: skip
    with run.step("the output"):
        _check_output(client, batch, lines)
    return run


def _write(path: Path, model: str, size: int, lines: int) -> int:
    with path.open("wb") as file:
        for line in _lines(model, size, lines):
            file.write(line)
        return file.tell()


def _lines(model: str, size: int, lines: int) -> Iterator[bytes]:
    """This many lines. With a model name as long as `GROUP`, they add up to just under `size` bytes."""
    bare, longer = (len(_line(GROUP, 0, PHRASE * count)) for count in (0, 1))
    text = PHRASE * ((size // lines - bare) // (longer - bare))
    for number in range(lines):
        yield _line(model, number, text)


def _line(model: str, number: int, text: str) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0.70}
    request = {"custom_id": f"request-{number:06}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"


def _await_inputs(client: OpenAI, file: FileObject) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        inputs: list[dict[str, Any]] = client.files.retrieve(file.id).model_dump()["inputs"]
        if inputs and {one["state"] for one in inputs} == {"ready"}:
            return
        assert time.monotonic() < deadline, inputs
        time.sleep(0.2)


def _check_copies(stack: Running, size: int, lines: int) -> None:
    """Assert that each account got the lines with its own model, byte for byte."""
    answer = httpx.get(f"{stack.provider_url}/control/log", params={"route": "files.create"})
    sent = {entry["account"]: entry["sha256"] for entry in answer.raise_for_status().json() if "sha256" in entry}
    for account, model in MODELS.items():
        digest = hashlib.sha256()
        for line in _lines(model, size, lines):
            digest.update(line)
        assert sent[account] == digest.hexdigest(), f"{account} was sent other bytes"


def _await_end(client: OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + SECONDS
    while batch.status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed", batch
    return batch


def _check_output(client: OpenAI, batch: Batch, lines: int) -> None:
    """Assert that the output has an answer for each line."""
    assert batch.output_file_id is not None, batch
    with client.files.with_streaming_response.content(batch.output_file_id) as response:
        answered = {json.loads(line)["custom_id"] for line in response.iter_lines()}
    assert len(answered) == lines, f"{len(answered)} answers of {lines}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.large_file", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--lines", type=int, default=50_000)
    args = parser.parse_args()
    print(machine())
    with Stack(HOME / "bench-stack", given={}) as stack:
        run = run_large_file(stack, args.megabytes * 1_000_000, args.lines)
    print(run.report())
    return int(max(one.grown for one in run.processes) > GOAL)


if __name__ == "__main__":
    raise SystemExit(main())
