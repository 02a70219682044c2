"""The speed of the translation of batch lines, of each dialect that has lines of its own, in both directions.

    python -m bench.batch_lines [--lines N] [--rounds N] [--dialects NAME …]

The lines are the chats of `bench.lines`, of some 4 KB. Results are those of a job of them at the simulated provider.
Each measure is in processor time, in turn with its floor: `orjson.loads` and `dumps` of the same lines. MB/s are of the
bytes that are read: OpenAI's lines on the way out, the provider's on the way back.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median

import orjson

from bench.lines import usual
from bench.measure import machine, processor, table
from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.line_translation import TranslatedRequests, TranslatedResults
from local.provider import Simulator, serve
from manifold.providers.registry import close_providers
from manifold.scrubbing import Scrubber
from tests.support.batch_dialects import BATCH_DIALECTS
from tests.support.batch_driver import BatchDriver

CHUNK_BYTES = 1024 * 1024
INPUT = "input_bench"


@dataclass(frozen=True, slots=True)
class Samples:
    """The lines of one dialect's job."""

    requests: bytes
    """OpenAI's lines."""
    results: bytes
    """The provider's lines."""
    custom_ids: Sequence[str]


async def samples(driver: BatchDriver, count: int) -> Samples:
    """So many requests, and the results of their job at the simulated provider."""
    random = Random(2)
    lines = [usual(f"request-{number}", random) for number in range(count)]
    sent = await driver.prepare(lines, INPUT)
    ref = await driver.submit(sent, f"job_{driver.dialect.name}")
    status = await driver.ended(ref)
    results = b""
    for named in (status.output_ref, status.error_ref):
        if named is not None:
            results += b"".join([chunk async for chunk in driver.provider.results(driver.at, named)])
    await close_providers()
    requests = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return Samples(requests, results, [str(line["custom_id"]) for line in lines])


def row(driver: BatchDriver, found: Samples, rounds: int) -> list[str]:
    """The speed of both directions, and their shares of the floor's."""
    out = _speed(found.requests, partial(_requests, driver, found), rounds)
    return [driver.dialect.name, *out, *_speed(found.results, partial(_results, driver, found), rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.batch_lines", description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dialects", nargs="*", help="the names of some dialects; by default all that translate")
    args = parser.parse_args()
    print(machine())
    with serve() as simulator, asyncio.Runner() as runner:
        rows = []
        for driver in _drivers(simulator, args.dialects):
            found = runner.run(samples(driver, args.lines))
            rows.append(row(driver, found, args.rounds))
    print(f"{args.lines} chats; MB/s, and to orjson.loads + dumps of the same lines")
    print(table(["", "out", "to floor", "back", "to floor"], rows))


def _drivers(simulator: Simulator, names: Sequence[str] | None) -> Iterator[BatchDriver]:
    for dialect in BATCH_DIALECTS:
        driver = BatchDriver(dialect, simulator, timeout=60.0)
        if driver.translator is not None and (not names or dialect.name in names):
            yield driver


def _speed(content: bytes, work: Callable[[], object], rounds: int) -> tuple[str, str]:
    """MB/s by the median, and the share of the floor's speed; one more round before warms up."""
    ours, floor = processor(work), processor(partial(_floor, content))
    taken = [(ours(), floor()) for _ in range(rounds + 1)][1:]
    seconds, least = (median(one) for one in zip(*taken, strict=True))
    return f"{len(content) / seconds / 1e6:.0f}", f"{least / seconds:.2f}"


def _floor(content: bytes) -> None:
    for line in filter(None, content.splitlines()):
        orjson.dumps(orjson.loads(line))


def _requests(driver: BatchDriver, found: Samples) -> None:
    translator = driver.translator
    assert translator is not None
    with TranslatedRequests(translator, INPUT) as requests:
        _drained(requests.through(_chunks(found.requests)))
        if requests.requests != len(found.custom_ids):
            raise AssertionError(f"{requests.refused} requests were refused")


def _results(driver: BatchDriver, found: Samples) -> None:
    translator = driver.translator
    assert translator is not None
    index = CustomIdIndex()
    index.extend(list(found.custom_ids))
    with index, TranslatedResults(translator, INPUT, index, Scrubber()) as results:
        _drained(results.answers(_chunks(found.results)))
        if results.invalid:
            raise AssertionError(f"{results.invalid} results cannot be read")


def _drained(chunks: AsyncIterator[bytes]) -> None:
    async def drain() -> None:
        async for _ in chunks:
            pass

    asyncio.run(drain())


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


if __name__ == "__main__":
    main()
