"""How a batch is divided into shards, by what its deployments take. Pure, without I/O: docs/decisions/0022-plan.md.

A batch that one deployment can take is one shard. Any other is cut between lines, into as few shards of about the same
size as one deployment's limits demand: that deployment's with which the group is done soonest.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

import orjson

from batches.file_cuts import Amounts, FileCuts, Size
from manifold.config import BatchLimits
from manifold.jsonl.report import Block, Report
from manifold.selection import Selection

MAX_SHARDS = 1000
"""The most shards of a batch."""
TOKENS_TAKEN = 0.8
"""The part of a deployment's enqueued tokens that the shards of a divided batch have at most: these are estimated."""
JOB_REQUESTS = 5000
"""What a job takes by itself, whatever its size, as the time of so many requests: it waits in its provider's queue."""

_HALVINGS = 16


class TooManyShards(Exception):
    """The batch would have more than `MAX_SHARDS` shards. The message says to its owner which limit is too low."""


class PlannedShard(NamedTuple):
    """A shard as it is to be written."""

    selection: Selection
    requests: int
    bytes: int
    """With the longest model name in each line. Of a part of a block it is that part of the block's bytes."""
    tokens: int
    """Estimated input tokens, likewise; 0 if the file has no estimate."""


def growth(report: Report, models: Iterable[str]) -> int:
    """The bytes that a line may gain when its model becomes one of these."""
    longest = max((len(orjson.dumps(model)) for model in models), default=0)
    return max(0, longest - len(orjson.dumps(report.model))) * ceil(report.models / report.lines)


def plan(blocks: Sequence[Block], limits: Sequence[BatchLimits], growth: int = 0) -> list[PlannedShard]:
    """The shards of a file with these blocks, in its order, for deployments with these limits.

    `growth`: the bytes that each request gains with its new model. One request that no deployment takes is a shard by
    itself: the provider decides. Raises `TooManyShards`.
    """
    file = FileCuts(blocks, growth)
    whole = file.amounts(0, file.end)
    if not limits or any(one.may_ever_take(*whole) for one in limits):
        return [PlannedShard(Selection.all(), *whole)]
    able = [_largest(one) for one in limits]
    plans = [ends for size in dict.fromkeys(map(_target, able)) if (ends := _divided(file, size)) is not None]
    if not plans:
        raise TooManyShards(_cause(whole, limits))
    ends = min(plans, key=lambda ends: (*_finish(_amounts(file, ends), able), len(ends)))
    return [
        PlannedShard(Selection.range(first, end - first), *file.amounts(first, end)) for first, end in _ranges(ends)
    ]


def _largest(limits: BatchLimits) -> Size:
    """The largest shard that a deployment takes when it runs nothing else."""
    requests = [one for one in (limits.batch_requests, limits.enqueued_requests) if one is not None]
    return Size(min(requests, default=None), limits.batch_bytes, limits.enqueued_tokens, limits.fewest_requests)


def _target(largest: Size) -> Size:
    """The largest shard that a batch is divided into for such a deployment."""
    tokens = None if largest.tokens is None else max(1, int(largest.tokens * TOKENS_TAKEN))
    return Size(largest.requests, largest.bytes, tokens)


def _divided(file: FileCuts, size: Size) -> list[int] | None:
    """The ends of the fewest shards of this size, evenly filled, with blocks if they can be; `None` for too many."""
    fewest = _cut(file, size, 1, MAX_SHARDS, at_blocks=False)
    if fewest is None:
        return None
    at_blocks = _cut(file, size, 1, len(fewest), at_blocks=True)
    return _even(file, size, at_blocks or fewest, at_blocks=at_blocks is not None)


def _even(file: FileCuts, size: Size, ends: list[int], *, at_blocks: bool) -> list[int]:
    """The ends of no more shards than these, each filled as little as that allows."""
    low, high = size.shards(file.amounts(0, file.end)) / len(ends), 1.0
    if found := _cut(file, size, low, len(ends), at_blocks=at_blocks):
        return found
    for _ in range(_HALVINGS):
        part = (low + high) / 2
        if found := _cut(file, size, part, len(ends), at_blocks=at_blocks):
            ends, high = found, part
        else:
            low = part
    return ends


def _cut(file: FileCuts, size: Size, part: float, most: int, *, at_blocks: bool) -> list[int] | None:
    """The end of each shard; `None` if they are more than `most`."""
    ends: list[int] = []
    for end in file.cut(size, part, at_blocks=at_blocks):
        if len(ends) == most:
            return None
        ends.append(end)
    return ends


def _ranges(ends: Sequence[int]) -> Iterable[tuple[int, int]]:
    return zip([0, *ends], ends, strict=False)


def _amounts(file: FileCuts, ends: Sequence[int]) -> list[Amounts]:
    return [file.amounts(first, end) for first, end in _ranges(ends)]


def _finish(shards: Sequence[Amounts], able: Sequence[Size]) -> tuple[int, int]:
    """How many shards no deployment takes, and when the last deployment is done, in requests, if each runs those shards
    that it takes, one after the other."""
    loads, left = [0] * len(able), 0
    for shard in shards:
        takers = [number for number, size in enumerate(able) if size.holds(shard)]
        left += not takers
        chosen = min(takers or range(len(able)), key=loads.__getitem__)
        loads[chosen] += shard.requests + JOB_REQUESTS
    return left, max(loads)


def _cause(whole: Amounts, limits: Sequence[BatchLimits]) -> str:
    """Which limit of the deployment that needs the fewest shards is too low."""

    def needs(one: BatchLimits) -> tuple[float, str, int]:
        amounts = {
            "max_batch_requests": (whole.requests, one.batch_requests),
            "max_enqueued_requests": (whole.requests, one.enqueued_requests),
            "max_batch_bytes": (whole.bytes, one.batch_bytes),
            "max_enqueued_tokens": (whole.tokens, one.enqueued_tokens),
        }
        return max((amount / most, name, most) for name, (amount, most) in amounts.items() if most is not None)

    _, name, most = min(map(needs, limits))
    return (
        f"The batch would have more than {MAX_SHARDS:,} parts: the {name} of its deployments is {most:,} at most. "
        f"Divide the file, or have {name} raised by an admin."
    )
