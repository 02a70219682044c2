"""What fits into the room of a deployment, and whose turn it is."""

from dataclasses import dataclass
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from batches.room import PATIENCE_SECONDS, Room, takers
from manifold.config import BatchLimits
from manifold.store.rooms import Held, InLine

LONG = PATIENCE_SECONDS
UNLIMITED = BatchLimits()


@dataclass(frozen=True)
class Load:
    requests: int = 1
    tokens: int = 1


def held(jobs: int = 1, requests: int = 0, tokens: int = 0, believed: int | None = None) -> Held:
    return Held("a", jobs, requests, tokens, believed)


def waiting(
    name: str, tokens: int = 1, *, owner: str = "", held: int = 0, waited: float = 1, since_turn: float | None = None
) -> InLine:
    return InLine(name, 1, tokens, owner or name, held, waited, since_turn)


class TestRoom:
    def test_without_limits_everything_fits_and_nobody_needs_a_turn(self) -> None:
        room = Room.of(UNLIMITED, held(jobs=1000, tokens=10**12))
        assert room.fits(Load(10**6, 10**12))
        assert not room.is_bounded

    def test_each_limit_counts_what_is_held(self) -> None:
        limits = BatchLimits(enqueued_tokens=100, enqueued_requests=10, concurrent_batches=3)
        room = Room.of(limits, held(jobs=2, requests=7, tokens=60))
        assert room.is_bounded
        assert room.fits(Load(3, 40))
        assert not room.fits(Load(4, 40))
        assert not room.fits(Load(3, 41))
        assert not room.without(Load(1, 1)).fits(Load(1, 1)), "a fourth job"

    def test_what_the_provider_said_counts_where_it_is_less_than_configured(self) -> None:
        limits = BatchLimits(enqueued_tokens=100)
        assert Room.of(limits, held(tokens=10, believed=50)).tokens == 40
        assert Room.of(limits, held(tokens=10, believed=500)).tokens == 90
        assert Room.of(UNLIMITED, held(tokens=10, believed=50)).is_bounded

    def test_an_idle_deployment_is_tried_with_one_shard_of_any_size(self) -> None:
        room = Room.of(BatchLimits(enqueued_tokens=100), held(jobs=0, believed=0))
        assert room.fits(Load(1, 1000))
        assert not room.without(Load(1, 1000)).fits(Load(1, 1))

    def test_a_deployment_of_no_jobs_takes_none(self) -> None:
        assert not Room.of(BatchLimits(concurrent_batches=0), held(jobs=0)).fits(Load())


def room(tokens: int) -> Room:
    """The room beside a job that runs."""
    return Room(tokens=tokens, idle=False)


class TestTurns:
    def test_the_owner_that_holds_the_least_comes_first(self) -> None:
        line = [waiting("a", held=5, waited=100), waiting("b", held=2, waited=10), waiting("c", held=3, waited=10)]
        assert takers(room(2), line) == ["b", "c"]

    def test_then_the_one_whose_turn_is_longest_ago(self) -> None:
        line = [waiting("a", waited=500, since_turn=5), waiting("b", waited=100, since_turn=50), waiting("c", waited=9)]
        assert takers(room(3), line) == ["b", "c", "a"]

    def test_of_one_owner_the_first_that_came(self) -> None:
        line = [waiting(name, owner="one", waited=100) for name in ("a", "b", "c")]
        assert takers(room(2), line) == ["a", "b"]

    def test_what_an_owner_takes_counts_at_once(self) -> None:
        many = [waiting(f"m{number}", 2, owner="many", waited=100) for number in range(5)]
        assert takers(room(6), [*many, waiting("few", 2, held=1, waited=1)]) == ["m0", "few", "m1"]

    def test_a_small_shard_overtakes_a_large_one_that_does_not_fit(self) -> None:
        line = [waiting("large", 10, waited=LONG - 1), waiting("small", 1, held=5)]
        assert takers(room(5), line) == ["small"]
        same = [waiting("large", 10, owner="one", waited=LONG - 1), waiting("small", 1, owner="one")]
        assert takers(room(5), same) == ["small"]

    def test_none_overtakes_an_owner_that_was_passed_over_for_long(self) -> None:
        large = waiting("large", 10, held=100, waited=LONG)
        line = [large, waiting("small", 1)]
        assert takers(room(5), line) == []
        assert takers(room(11), line) == ["large", "small"]

    def test_an_owner_that_had_its_turn_lately_does_not_hold_up_others(self) -> None:
        large = waiting("large", 10, owner="one", waited=2 * LONG, since_turn=LONG - 1)
        assert takers(room(5), [large, waiting("small", 1)]) == ["small"]

    def test_its_own_later_shards_do_not_overtake_one_that_has_waited_for_long(self) -> None:
        line = [
            waiting("large", 10, owner="one", waited=LONG, since_turn=1),
            waiting("later", 1, owner="one", waited=5),
        ]
        assert takers(room(5), line) == []

    def test_of_many_that_wait_for_long_an_owner_takes_one_and_then_the_others_come(self) -> None:
        many = [waiting(f"m{number}", 8, owner="many", waited=3 * LONG) for number in range(3)]
        assert takers(room(16), [*many, waiting("other", 8, waited=2 * LONG)]) == ["m0", "other"]


@st.composite
def lines(draw: st.DrawFn) -> list[InLine]:
    names = count()
    owners = draw(st.lists(st.tuples(st.integers(0, 50), st.none() | st.floats(0, 2000)), max_size=6))
    line = []
    for owner, (owner_held, since_turn) in enumerate(owners):
        waits = sorted(draw(st.lists(st.floats(0, 2000), min_size=1, max_size=6)), reverse=True)
        line += [
            waiting(f"s{next(names)}", draw(st.integers(0, 20)), owner=f"o{owner}", held=owner_held, waited=waited,
                    since_turn=since_turn)
            for waited in waits
        ]  # fmt: skip
    return line


@given(line=lines(), tokens=st.integers(-5, 60), jobs=st.none() | st.integers(-1, 4))
def test_no_more_is_taken_than_there_is(line: list[InLine], tokens: int, jobs: int | None) -> None:
    taken = takers(Room(jobs=jobs, tokens=tokens, idle=False), line)
    by_id = {shard.id: shard for shard in line}
    assert len(set(taken)) == len(taken)
    assert sum(by_id[one].tokens for one in taken) <= max(0, tokens)
    assert jobs is None or len(taken) <= max(0, jobs)


@given(line=lines())
def test_an_idle_deployment_is_never_left_idle(line: list[InLine]) -> None:
    assert bool(takers(Room(tokens=0), line)) == bool(line)


@given(line=lines(), tokens=st.integers(0, 60))
def test_those_that_have_waited_for_long_keep_the_order_of_their_owner(line: list[InLine], tokens: int) -> None:
    taken = takers(room(tokens), line)
    for place, shard in enumerate(line):
        if shard.id not in taken and shard.waited >= LONG:
            assert not [later for later in line[place:] if later.owner == shard.owner and later.id in taken]


@given(line=lines(), tokens=st.integers(0, 60))
def test_the_turn_of_a_shard_does_not_depend_on_the_order_of_owners(line: list[InLine], tokens: int) -> None:
    turned = sorted(line, key=lambda shard: shard.owner, reverse=True)
    assert takers(room(tokens), turned) == takers(room(tokens), line)
