"""The fan-out: many calls at once, without a network."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from completions import fanout
from completions.fanout import InOrder, first_of, outcome
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


async def results(in_order: InOrder[Any], pause: float = 9) -> AsyncGenerator[bytes | None, None]:
    async with in_order:
        async for result in in_order.results(pause):
            yield result


@pytest.fixture
def works() -> Works:
    return Works()


async def test_answers_are_in_the_order_of_the_calls(works: Works) -> None:
    seconds = {"slow": 0.02, "fast": 0.0, "middle": 0.01}

    async def work(name: str) -> bytes:
        return (await works.do(name, seconds[name])).encode()

    assert [one async for one in results(InOrder(list(seconds), work, 9, b""))] == [b"slow", b"fast", b"middle"]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 3), (99, 10)])
async def test_concurrency_is_bounded(works: Works, workers: int, most: int) -> None:
    async def work(number: int) -> bytes:
        return (await works.do(str(number), 0.001)).encode()

    assert len([one async for one in results(InOrder(range(10), work, workers, b""))]) == 10
    assert works.most == most


async def test_an_answer_leaves_once_those_before_it_have() -> None:
    gates = [asyncio.Event() for _ in range(4)]

    async def work(number: int) -> bytes:
        await gates[number].wait()
        return b"%d" % number

    answers = results(InOrder(range(4), work, 4, b""))
    gates[0].set()
    assert await anext(answers) == b"0"
    gates[2].set()
    following = asyncio.ensure_future(anext(answers))
    await asyncio.sleep(0.01)
    assert not following.done()
    gates[1].set()
    assert [await following, await anext(answers)] == [b"1", b"2"]
    await answers.aclose()


async def test_a_long_pause_is_told() -> None:
    async def work(number: int) -> bytes:
        await asyncio.sleep(0.05)
        return b"%d" % number

    told = [one async for one in results(InOrder(range(1), work, 1, b""), 0.01)]
    assert (told[0], told[-1]) == (None, b"0")


async def test_a_slow_answer_holds_back_calls_once_much_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "AHEAD_BYTES", 100)
    first, begun = asyncio.Event(), list[int]()

    async def work(number: int) -> bytes:
        begun.append(number)
        if number == 0:
            await first.wait()
        return b"x" * 40

    answers = results(InOrder(range(20), work, 2, b""))
    coming = asyncio.ensure_future(anext(answers))
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2, 3], "three answers of 40 bytes wait"
    first.set()
    assert len([await coming, *[one async for one in answers]]) == 20


async def test_a_reader_who_takes_nothing_holds_back_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "AHEAD_BYTES", 100)
    begun = list[int]()

    async def work(number: int) -> bytes:
        begun.append(number)
        return b"x" * 40

    answers = results(InOrder(range(20), work, 2, b""))
    await anext(answers)
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2, 3, 4], "each worker goes on once, as there is room for 20 bytes"
    await answers.aclose()


async def test_what_waits_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of calls that were under way together can be more than what holds back others."""
    monkeypatch.setattr(fanout, "AHEAD_BYTES", 100)
    monkeypatch.setattr(fanout, "MAX_AHEAD_BYTES", 1000)
    first = asyncio.Event()

    async def work(number: int) -> bytes:
        if number == 0:
            await first.wait()
            return b"x" * 5000
        await asyncio.sleep(0.001 * number)
        return b"x" * 400

    answers = results(InOrder(range(5), work, 5, b"in place"))
    coming = asyncio.ensure_future(anext(answers))
    await asyncio.sleep(0.05)
    first.set()
    all_of_them = [await coming, *[one async for one in answers]]
    assert [len(one or b"") for one in all_of_them] == [5000, 400, 400, 8, 8]


async def test_a_fault_of_a_call_is_raised(works: Works) -> None:
    async def work(number: int) -> bytes:
        return (await works.do(str(number), 0.0 if number else 9, RuntimeError("a bug"))).encode()

    with pytest.raises(RuntimeError, match="a bug"):
        await anext(results(InOrder(range(3), work, 3, b"")))
    assert works.cancelled == ["0"]


async def test_a_reader_that_leaves_cancels_all_calls(works: Works) -> None:
    async def work(number: int) -> bytes:
        return (await works.do(str(number), 9 if number else 0)).encode()

    answers = results(InOrder(range(9), work, 3, b""))
    assert await anext(answers) == b"0"
    await asyncio.sleep(0.01)
    await answers.aclose()
    assert (sorted(works.cancelled), works.under_way) == (["1", "2", "3"], 0)


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
