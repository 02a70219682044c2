"""How a batch is divided into shards."""

from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.plan import MAX_SHARDS, PlannedShard, TooManyShards, growth, plan
from manifold.config import BatchLimits
from manifold.jsonl.check import Check
from manifold.jsonl.report import Block
from manifold.selection import Selection


def blocks_of(sums: Sequence[tuple[int, int, int | None]]) -> list[Block]:
    """Blocks with so many requests, bytes and input tokens, without blank lines before them."""
    firsts = accumulate((requests for requests, _, _ in sums), initial=0)
    starts = accumulate((size for _, size, _ in sums), initial=0)
    return [
        Block(first, requests, start, size, tokens, None, None)
        for first, start, (requests, size, tokens) in zip(firsts, starts, sums, strict=False)
    ]


def uniform(requests: int, size: int = 200, tokens: int = 50, block: int = 1000) -> list[Block]:
    """The blocks of a file whose requests are alike."""
    numbers = [min(block, requests - first) for first in range(0, requests, block)]
    return blocks_of([(number, number * size, number * tokens) for number in numbers])


def sizes(shards: Sequence[PlannedShard]) -> list[int]:
    return [shard.requests for shard in shards]


def takes(limits: BatchLimits, shard: PlannedShard) -> bool:
    pairs = (
        (shard.requests, limits.batch_requests),
        (shard.requests, limits.enqueued_requests),
        (shard.bytes, limits.batch_bytes),
        (shard.tokens, limits.enqueued_tokens),
    )
    return all(most is None or amount <= most for amount, most in pairs)


LIMITS = BatchLimits(batch_requests=50_000, batch_bytes=200_000_000)


@pytest.mark.parametrize(
    "limits",
    [
        BatchLimits(),
        BatchLimits(1_000_000, 20_000, 20_000, 4_000_000, 1),
        BatchLimits(enqueued_tokens=1_000_000),
    ],
)
def test_a_batch_that_one_deployment_takes_is_one_shard(limits: BatchLimits) -> None:
    too_small = BatchLimits(batch_requests=1)
    assert plan(uniform(20_000), [too_small, limits]) == [PlannedShard(Selection.all(), 20_000, 4_000_000, 1_000_000)]


def test_a_batch_too_small_for_one_deployment_is_divided_for_another() -> None:
    small, bedrock = BatchLimits(batch_requests=40), BatchLimits(fewest_requests=100)
    assert sizes(plan(uniform(60), [small, bedrock])) == [30, 30]
    assert sizes(plan(uniform(100), [small, bedrock])) == [100]


def test_a_batch_too_small_for_all_is_one_shard() -> None:
    assert sizes(plan(uniform(60), [BatchLimits(fewest_requests=100)])) == [60]


@pytest.mark.parametrize(
    "limits",
    [
        BatchLimits(enqueued_tokens=999_999),
        BatchLimits(enqueued_requests=19_999),
        BatchLimits(batch_requests=19_999),
        BatchLimits(batch_bytes=3_999_999),
    ],
)
def test_a_batch_that_is_larger_in_one_respect_is_divided(limits: BatchLimits) -> None:
    assert sizes(plan(uniform(20_000), [limits])) == [10_000, 10_000]


def test_without_a_deployment_there_is_one_shard() -> None:
    assert [shard.selection for shard in plan(uniform(10), [])] == [Selection.all()]


def test_a_million_requests_are_twenty_shards_of_fifty_thousand() -> None:
    shards = plan(uniform(1_000_000), [LIMITS] * 4)
    assert sizes(shards) == [50_000] * 20
    assert [str(shard.selection) for shard in shards[:2]] == ["0-49999", "50000-99999"]


def test_no_shard_is_a_tiny_rest() -> None:
    shards = plan(uniform(100_001), [LIMITS])
    assert sizes(shards) == [33_000, 33_000, 34_001]
    assert sizes(plan(uniform(10, block=10), [BatchLimits(batch_requests=4)])) == [4, 3, 3]


def test_shards_end_with_blocks_unless_that_would_make_more_of_them() -> None:
    blocks = uniform(100_000, block=777)
    ends_of_blocks = {block.first + block.requests for block in blocks}
    with_blocks = plan(blocks, [BatchLimits(batch_requests=60_000)])
    assert {shard.selection.first + shard.requests for shard in with_blocks} <= ends_of_blocks
    assert sizes(plan(blocks, [LIMITS])) == [50_000, 50_000]


def test_the_size_is_that_with_which_the_group_is_done_first() -> None:
    large, small = BatchLimits(batch_requests=100_000), BatchLimits(batch_requests=50_000)
    assert sizes(plan(uniform(150_000), [large, small])) == [50_000] * 3  # two after each other, not two of 75,000
    assert (
        sizes(plan(uniform(200_000), [large, large, small])) == [100_000] * 2
    )  # not four of 50,000: two after another
    assert sizes(plan(uniform(150_000), [BatchLimits(batch_requests=75_000), large])) == [75_000] * 2


def test_a_deployment_that_takes_little_does_not_make_a_thousand_shards() -> None:
    tiny = BatchLimits(batch_requests=1_000)
    assert sizes(plan(uniform(1_000_000), [LIMITS] * 4 + [tiny])) == [50_000] * 20


def test_lines_of_different_sizes_are_divided_by_their_bytes() -> None:
    blocks = blocks_of([(1000, 100_000, 0)] * 10 + [(100, 4_000_000, 0)] * 10)
    shards = plan(blocks, [BatchLimits(batch_bytes=21_000_000)])
    assert [shard.bytes for shard in shards] == [21_000_000, 20_000_000]


def test_the_growth_counts_for_each_request() -> None:
    limits = BatchLimits(batch_bytes=20_000)
    assert len(plan(uniform(100), [limits])) == 1
    shards = plan(uniform(100, block=10), [limits], growth=1)
    assert [shard.bytes for shard in shards] == [10_050, 10_050]


def test_a_request_that_nobody_takes_is_a_shard_by_itself() -> None:
    blocks = blocks_of([(10, 100, 100), (1, 100, 5_000), (10, 100, 100)])
    shards = plan(blocks, [BatchLimits(enqueued_tokens=1_000)])
    assert [str(shard.selection) for shard in shards] == ["0-9", "10-10", "11-20"]


def test_a_divided_batch_leaves_room_for_the_estimates_error() -> None:
    shards = plan(uniform(100, tokens=10, block=10), [BatchLimits(enqueued_tokens=500)])
    assert [shard.tokens for shard in shards] == [300, 300, 400]


def test_without_an_estimate_tokens_limit_nothing() -> None:
    blocks = blocks_of([(1000, 1000, None)] * 3)
    assert plan(blocks, [BatchLimits(enqueued_tokens=1)]) == [PlannedShard(Selection.all(), 3000, 3000, 0)]


@pytest.mark.parametrize(
    ("limits", "name", "most"),
    [
        (BatchLimits(batch_requests=999), "max_batch_requests", "999"),
        (BatchLimits(enqueued_requests=999), "max_enqueued_requests", "999"),
        (BatchLimits(batch_bytes=150_000, batch_requests=10_000), "max_batch_bytes", "150,000"),
        (BatchLimits(enqueued_tokens=50_000), "max_enqueued_tokens", "50,000"),
    ],
)
def test_too_many_shards_are_an_error_that_names_the_limit(limits: BatchLimits, name: str, most: str) -> None:
    tiny = BatchLimits(batch_requests=1)
    with pytest.raises(
        TooManyShards,
        match=f"more than 1,000 parts: the {name} of its deployments is {most} at most.*have {name} raised",
    ):
        plan(uniform(1_000_000), [tiny, limits])


def test_a_thousand_shards_are_not_too_many() -> None:
    assert sizes(plan(uniform(1_000_000), [BatchLimits(batch_requests=1_000)])) == [1_000] * MAX_SHARDS


def test_the_growth_is_that_of_the_longest_name() -> None:
    line = b'{"custom_id": "%d", "method": "POST", "url": "/v1/embeddings", "body": {"model": "gpt", "input": "x"}}\n'
    report = Check.whole(b"".join(line % number for number in range(10)))
    names = ["g", "gpt-4", "größe"]
    assert growth(report, names) == max(report.rewritten_bytes(name) - report.bytes for name in names) / 10
    assert growth(report, ["g"]) == 0


BLOCKS = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(1, 100_000), st.integers(0, 100_000)), min_size=1, max_size=12
).map(blocks_of)
ANY_LIMITS = st.lists(
    st.builds(
        BatchLimits,
        enqueued_tokens=st.none() | st.integers(1, 1_000_000),
        enqueued_requests=st.none() | st.integers(1, 20_000),
        batch_requests=st.none() | st.integers(1, 20_000),
        batch_bytes=st.none() | st.integers(1, 1_000_000),
        concurrent_batches=st.none(),
        fewest_requests=st.just(1),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(BLOCKS, ANY_LIMITS, st.integers(0, 40))
def test_each_request_is_in_one_shard_and_each_shard_is_within_limits(
    blocks: list[Block], limits: list[BatchLimits], growth: int
) -> None:
    requests = sum(block.requests for block in blocks)
    size = sum(block.bytes for block in blocks) + requests * growth
    whole = PlannedShard(Selection.all(), requests, size, sum(block.input_tokens or 0 for block in blocks))
    fits = any(takes(one, whole) for one in limits)
    try:
        shards = plan(blocks, limits, growth)
    except TooManyShards:
        assert not fits
        return
    if fits:
        assert shards == [whole]
        return
    ends = list(accumulate(sizes(shards)))
    assert [shard.selection for shard in shards] == [
        Selection.range(end - shard.requests, shard.requests) for shard, end in zip(shards, ends, strict=True)
    ]
    assert ends[-1] == requests
    assert (sum(shard.bytes for shard in shards), sum(shard.tokens for shard in shards)) == (whole.bytes, whole.tokens)
    assert len(shards) <= MAX_SHARDS
    for shard in shards:
        assert shard.requests == 1 or any(takes(one, shard) for one in limits)


def test_a_block_that_is_cut_counts_in_full_on_both_sides() -> None:
    blocks = blocks_of([(10, 100, 0)] * 3)  # the first line of each may have 91 bytes
    shards = plan(blocks, [BatchLimits(batch_bytes=150)])
    assert sizes(shards) == [10, 10, 10]
    shards = plan(blocks, [BatchLimits(batch_bytes=250, batch_requests=16)])
    assert sizes(shards) == [15, 15]


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=300), st.integers(1, 50), st.data())
def test_bytes_are_within_the_limit_however_lines_differ_within_a_block(
    lines: list[int], most: int, data: st.DataObject
) -> None:
    numbers = [lines[first : first + most] for first in range(0, len(lines), most)]
    blocks = blocks_of([(len(block), sum(block), 0) for block in numbers])
    limits = BatchLimits(
        batch_bytes=data.draw(st.integers(max(map(sum, numbers)), sum(lines))),
        batch_requests=data.draw(st.integers(1, len(lines))),
    )
    for shard in plan(blocks, [limits]):
        first = shard.selection.first
        assert sum(lines[first : first + shard.requests]) <= (limits.batch_bytes or 0)


@settings(deadline=None)
@given(st.integers(1, 3_000), st.integers(1, 1_000), st.integers(1, 1_000))
def test_requests_that_are_alike_make_the_fewest_shards_and_even_ones(requests: int, most: int, block: int) -> None:
    try:
        shards = plan(uniform(requests, block=block), [BatchLimits(batch_requests=most)])
    except TooManyShards:
        assert requests > MAX_SHARDS * most
        return
    assert len(shards) == -(-requests // most)
    assert max(sizes(shards)) - min(sizes(shards)) <= 2 * block
