"""The runtime of functions whose answers stream, as a process, against a Runtime API written from the protocol."""

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator

import psutil
import pytest

from local.runtime_api import FunctionError
from tests.support.runtime_function import Function, function, rest


@pytest.fixture
async def streams() -> AsyncIterator[Function]:
    async with function() as made:
        yield made


async def test_an_answer_has_a_head_and_a_body(streams: Function) -> None:
    head, content = await streams.answer("/echo", body="höllo", method="POST", a=1)
    assert head["statusCode"] == 200
    assert head["multiValueHeaders"]["content-type"] == ["application/json"]
    assert head["multiValueHeaders"]["x-one"] == ["1"]
    assert "höllo" in content.decode()
    assert '"query":{"a":"1"}' in content.decode()


async def test_cookies_are_apart(streams: Function) -> None:
    head, content = await streams.answer("/cookies")
    assert (head["statusCode"], content) == (201, b"ok")
    assert [cookie.partition(";")[0] for cookie in head["cookies"]] == ["a=1", "b=2"]
    assert "set-cookie" not in head["multiValueHeaders"]


async def test_the_app_knows_its_invocation(streams: Function) -> None:
    invocation = streams.invoke("/echo")
    _, content = await invocation.head()
    content += await rest(invocation)
    assert invocation.id in content.decode()
    assert invocation.trace_id in content.decode()
    told = await streams.echo()
    assert 25_000 < told["remaining"] <= 30_000


async def test_pieces_come_as_they_are_sent(streams: Function) -> None:
    invocation = streams.invoke("/ticks", count=20, pause=0.05)
    _, first = await invocation.head()
    delays = [time.time() - float(first)] if first else []
    async for piece in invocation.body():
        delays.append(time.time() - float(piece))
    assert len(delays) == 20
    assert statistics.median(delays) < 0.02


async def test_a_large_answer_is_not_held(streams: Function) -> None:
    """300 MB, of which the client takes some after a while: the function waits with the rest."""
    await streams.answer("/large", pieces=1)
    process = psutil.Process(streams.process.pid)
    before = process.memory_info().rss
    invocation = streams.invoke("/large", pieces=5_000)
    _, first = await invocation.head()
    taken = len(first)
    async for piece in invocation.body():
        taken += len(piece)
    assert taken == 5_000 * 65_536
    assert process.memory_info().rss - before < 40 * 2**20


async def test_an_error_before_the_head_fails_the_invocation(streams: Function) -> None:
    invocation = streams.api.invoke({"no": "event of API Gateway"})
    with pytest.raises(FunctionError) as caught:
        await invocation.head()
    assert caught.value.kind == "Runtime.KeyError"
    assert (await streams.echo())["calls"] == 1, "the environment goes on"


async def test_an_error_of_the_app_is_its_answer(streams: Function) -> None:
    """Starlette sends a 500, and raises the error after it."""
    head, content = await streams.answer("/fails")
    assert (head["statusCode"], content) == (500, b"Internal Server Error")


async def test_an_error_after_the_head_is_in_the_trailer(streams: Function) -> None:
    invocation = streams.invoke("/breaks")
    _, first = await invocation.head()
    assert first in (b"", b"first\n")
    with pytest.raises(FunctionError) as caught:
        await rest(invocation)
    assert caught.value.kind == "Runtime.RuntimeError"
    assert caught.value.details["errorMessage"] == "after the head"
    assert (await streams.echo())["calls"] == 1


async def test_the_deadline_breaks_an_answer_off() -> None:
    async with function(seconds=1.5) as streams:
        invocation = streams.invoke("/ticks", count=100, pause=0.1)
        await invocation.head()
        with pytest.raises(FunctionError, match="DeadlineExceeded"):
            await rest(invocation)
        assert (await streams.echo())["cancelled"] == 1


async def test_a_client_that_leaves_ends_the_answer(streams: Function) -> None:
    invocation = streams.invoke("/ticks", count=1_000, pause=0.05)
    await invocation.head()
    began = time.monotonic()
    invocation.leave()
    told = await streams.echo()
    assert told["cancelled"] == 1
    assert time.monotonic() - began < 1


async def test_a_function_that_cannot_start_says_why() -> None:
    async with function({"FAILS_TO_START": "yes"}) as streams:
        await streams.process.wait()
        assert streams.api.init_error is not None
        assert streams.api.init_error.details["errorMessage"] == "no configuration"
        assert streams.process.returncode == 1


async def test_an_environment_that_ends_fails_its_invocation(streams: Function) -> None:
    with pytest.raises(FunctionError, match="ended"):
        await streams.invoke("/ends").head()


async def test_an_environment_is_frozen_between_invocations(streams: Function) -> None:
    first = await streams.echo()
    streams.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    streams.process.send_signal(signal.SIGCONT)
    second = await streams.echo()
    assert (first["calls"], second["calls"]) == (1, 2)
    assert second["loops"] == 1, "one event loop serves all"
    assert first["trace"] != second["trace"]


async def test_many_invocations_leave_nothing(streams: Function) -> None:
    process = psutil.Process(streams.process.pid)
    for _ in range(500):
        await streams.echo()
    objects = (await streams.echo(objects=1))["objects"]
    await streams.until(lambda: streams.api.idle == 1)
    memory, files = process.memory_info().rss, process.num_fds()
    for _ in range(10_000):
        await streams.answer("/echo")
    assert (await streams.echo(objects=1))["objects"] < objects + 500
    await streams.until(lambda: streams.api.idle == 1)
    assert process.num_fds() <= files
    assert process.memory_info().rss - memory < 8 * 2**20
