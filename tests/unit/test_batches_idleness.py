"""When the poller may leave Postgres alone, on a clock that the test moves."""

import pytest

from batches.idleness import QUIET_SECONDS, REST_SECONDS, Idleness
from manifold import activity
from manifold.activity import ActivityMark
from manifold.errors import Unavailable
from tests.support.clock import Clock


class Bucket:
    """The part of a bucket that a mark needs. Each write has other bytes."""

    def __init__(self) -> None:
        self.etags: dict[str, str] = {}
        self.writes = 0
        self.down = False

    async def put(self, key: str, body: bytes) -> None:
        if self.down:
            raise Unavailable("The file storage did not answer.")
        self.etags[key] = body.decode()
        self.writes += 1

    async def etag(self, key: str) -> str | None:
        if self.down:
            raise Unavailable("The file storage did not answer.")
        return self.etags.get(key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def mark(bucket: Bucket, clock: Clock) -> ActivityMark:
    """The mark in an environment of its own."""
    return ActivityMark(bucket, clock)  # type: ignore[arg-type]


async def resting(bucket: Bucket, clock: Clock) -> Idleness:
    """The poller after five minutes in which nothing was open."""
    idleness = Idleness(mark(bucket, clock), clock)
    for _ in range(6):
        assert not await idleness.rests()
        if idleness.quiet:
            idleness.rest()
        clock.now += 60
    assert await idleness.rests()
    return idleness


async def test_it_rests_for_an_hour_and_then_looks_once(bucket: Bucket, clock: Clock) -> None:
    idleness = await resting(bucket, clock)

    skipped = 0
    while await idleness.rests():
        skipped += 1
        clock.now += 60
    assert skipped == 59
    assert idleness.quiet, "a run that finds nothing open rests again at once"
    idleness.rest()
    assert await idleness.rests()


async def test_it_does_not_rest_before_the_mark_has_been_the_same_for_five_minutes(
    bucket: Bucket, clock: Clock
) -> None:
    idleness = Idleness(mark(bucket, clock), clock)
    await idleness.rests()
    clock.now += QUIET_SECONDS - 1
    await idleness.rests()
    assert not idleness.quiet
    await mark(bucket, clock).write()
    clock.now += 2
    await idleness.rests()
    assert not idleness.quiet, "the time counts from the last change"


async def test_a_mark_ends_the_rest_at_the_next_run(bucket: Bucket, clock: Clock) -> None:
    idleness = await resting(bucket, clock)
    await mark(bucket, clock).write()

    assert not await idleness.rests()
    assert not idleness.quiet


async def test_an_environment_writes_the_mark_every_two_minutes_at_most(bucket: Bucket, clock: Clock) -> None:
    writer = mark(bucket, clock)
    for _ in range(10):
        await writer.write()
        clock.now += 30
    assert bucket.writes == 3


async def test_a_request_that_relies_on_an_earlier_mark_has_ended_before_the_rest_begins(
    bucket: Bucket, clock: Clock
) -> None:
    """The worst case: the mark was written just before a run, and relied on two minutes later by a slow request."""
    writer, idleness = mark(bucket, clock), Idleness(mark(bucket, clock), clock)
    await writer.write()
    seen_at = clock.now
    await idleness.rests()
    clock.now += activity.MARK_SECONDS - 1
    await writer.write()
    assert bucket.writes == 1
    committed_at = clock.now + 29  # API Gateway's limit
    while not idleness.quiet:
        clock.now += 60
        await idleness.rests()
    assert clock.now >= seen_at + QUIET_SECONDS > committed_at


async def test_a_new_environment_of_the_poller_does_not_rest(bucket: Bucket, clock: Clock) -> None:
    await resting(bucket, clock)
    assert not await Idleness(mark(bucket, clock), clock).rests()


async def test_without_the_bucket_the_poller_works_and_so_does_the_request(bucket: Bucket, clock: Clock) -> None:
    idleness = await resting(bucket, clock)
    bucket.down = True
    writer = mark(bucket, clock)
    await writer.write()
    assert not await idleness.rests()

    bucket.down = False
    assert not await idleness.rests(), "what came meanwhile was not announced"
    await writer.write()
    assert bucket.writes == 1, "a write that failed is not taken for one"


@pytest.mark.parametrize("seconds", [-10, -1_000_000])
async def test_a_clock_that_is_set_back_ends_the_rest_and_has_the_mark_written(
    seconds: float, bucket: Bucket, clock: Clock
) -> None:
    idleness, writer = await resting(bucket, clock), mark(bucket, clock)
    await writer.write()
    clock.now += seconds - REST_SECONDS
    await writer.write()
    assert bucket.writes == 2
    assert not await idleness.rests()
