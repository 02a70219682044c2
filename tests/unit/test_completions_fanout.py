"""The fan-out: many calls at once, without a network."""

import asyncio

import pytest

from completions.fanout import all_of, first_of, outcome
from manifold.errors import CallFailed, InvalidRequest, ManifoldError


class Works:
    """Calls that record how they ended."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0
        self.cancelled: list[str] = []

    async def do(self, name: str, seconds: float = 0.0, error: Exception | None = None) -> str:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.under_way -= 1
        if error is not None:
            raise error
        return name


@pytest.fixture
def works() -> Works:
    return Works()


async def test_answers_are_in_the_order_of_the_calls(works: Works) -> None:
    seconds = {"slow": 0.02, "fast": 0.0, "middle": 0.01}

    assert await all_of(list(seconds), lambda name: works.do(name, seconds[name]), 9) == ["slow", "fast", "middle"]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 3), (99, 10)])
async def test_concurrency_is_bounded(works: Works, workers: int, most: int) -> None:
    await all_of(range(10), lambda number: works.do(str(number), 0.001), workers)

    assert works.most == most


async def test_an_error_is_a_value(works: Works) -> None:
    refused = InvalidRequest("no")

    assert await outcome(works.do("a")) == "a"
    assert await outcome(works.do("a", error=refused)) is refused


async def test_a_fault_of_ours_is_one_without_its_words(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    result = await outcome(works.do("a", error=RuntimeError("postgresql://ann:hush@host")))

    assert isinstance(result, ManifoldError)
    assert (result.status, result.code, "hush" in result.message) == (500, "internal_error", False)
    assert "fault" in caplog.messages


async def test_the_first_success_ends_the_others(works: Works) -> None:
    failing = works.do("broken", error=CallFailed("down", status=503))

    result = await first_of([("a", works.do("slow", 9)), ("b", failing), ("c", works.do("fast", 0.01))])

    assert result == "fast"
    assert (works.cancelled, works.under_way) == (["slow"], 0)


async def test_successes_of_the_same_moment_are_discarded(works: Works) -> None:
    discarded = []

    async def discard(name: str) -> None:
        discarded.append(name)

    result = await first_of([(name, works.do(name)) for name in "abc"], discard)

    assert sorted([result, *discarded]) == ["a", "b", "c"]


async def test_without_a_success_each_error_is_returned(works: Works) -> None:
    busy = CallFailed("Too many.", status=429, type="rate_limit_error", retry_after=3)
    wrong = InvalidRequest("Too long.")

    with pytest.raises(CallFailed) as failed:
        await first_of([("a", works.do("a", 0.01, error=busy)), ("b", works.do("b", error=wrong))])

    assert failed.value.message == "No model answered. a: Too many. b: Too long."
    assert (failed.value.status, failed.value.type, failed.value.retry_after) == (502, "server_error", 3)


async def test_the_status_that_all_share_is_that_of_the_whole(works: Works) -> None:
    busy = CallFailed("Too many.", status=429, type="rate_limit_error")

    with pytest.raises(CallFailed) as failed:
        await first_of([(name, works.do(name, error=busy)) for name in "ab"])

    assert (failed.value.status, failed.value.type) == (429, "rate_limit_error")


async def test_a_cancelled_fan_out_cancels_all_calls(works: Works) -> None:
    race = asyncio.create_task(first_of([(name, works.do(name, 9)) for name in "ab"]))
    await asyncio.sleep(0.01)
    race.cancel()

    with pytest.raises(asyncio.CancelledError):
        await race
    assert (sorted(works.cancelled), works.under_way) == (["a", "b"], 0)
