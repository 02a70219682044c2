"""Completions that stream, against the deployed stack: by OpenAI's SDK, and by plain HTTP."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from local.running import Running

MODEL = "gpt-3.5-turbo"
ACCOUNT = "openai"
TOKEN_SECONDS = 0.1
WORDS = " ".join(f"word{number}" for number in range(20))

SetLatency = Callable[..., None]


@pytest.fixture
def latency(stack: Running) -> Iterator[SetLatency]:
    """Sets how long the provider takes, for one test."""

    def take(**seconds: float) -> None:
        httpx.post(f"{stack.provider_url}/control/latency/{ACCOUNT}", json=seconds).raise_for_status()

    yield take
    take()


def body(stream: bool, text: str = WORDS) -> dict[str, object]:
    return {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": text}]}


def client(stack: Running) -> httpx.Client:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    return httpx.Client(base_url=stack.base_url, headers=headers, timeout=120)


def arrivals(stack: Running) -> list[float]:
    """When each token of one stream came, in seconds from the request."""
    began, times = time.monotonic(), list[float]()
    with openai.OpenAI(base_url=stack.base_url, api_key=stack.api_key) as sdk:
        for chunk in sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": WORDS}], stream=True
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                times.append(time.monotonic() - began)
    return times


def test_each_token_comes_when_the_provider_sends_it(stack: Running, latency: SetLatency) -> None:
    arrivals(stack)  # the environment starts
    latency(between_tokens=TOKEN_SECONDS)
    times = arrivals(stack)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    late = [at - times[0] - number * TOKEN_SECONDS for number, at in enumerate(times)]
    middle, most = statistics.median(late) * 1000, max(late) * 1000
    print(f"{len(times)} tokens, late by {middle:.1f} ms (median), {most:.1f} (most)")
    assert len(times) > 10
    assert times[0] < 1
    assert 0.5 * TOKEN_SECONDS < statistics.median(pauses) < 1.5 * TOKEN_SECONDS


def test_the_providers_call_ends_when_the_client_leaves(stack: Running, latency: SetLatency) -> None:
    latency(between_tokens=1.0)
    with client(stack) as http, http.stream("POST", "/chat/completions", json=body(stream=True)) as answer:
        next(answer.iter_lines())
    left = time.monotonic()
    while not _log(stack)[-1].get("disconnected"):
        assert time.monotonic() - left < 5
        time.sleep(0.05)
    print(f"the provider saw it after {time.monotonic() - left:.2f} s")


def test_a_route_that_does_not_stream_is_answered_by_the_emulator(stack: Running) -> None:
    with client(stack) as http:
        assert http.get("/models", params={"unknown": "a&b"}).json()["object"] == "list"


def _log(stack: Running) -> list[dict[str, object]]:
    log: list[dict[str, object]] = httpx.get(f"{stack.provider_url}/control/log", params={"account": ACCOUNT}).json()
    return log
