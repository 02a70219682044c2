"""Completions that stream, against the deployed stack: by OpenAI's SDKs, and by plain HTTP."""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.places import TOOLS, tool
from local.running import Running
from tests.support.sdk_scripts import run

MODEL = "gpt-3.5-turbo"
ACCOUNT = "openai"
TOKEN_SECONDS = 0.1
MOST_LATE = 0.05
"""Seconds from the provider's sending of a chunk to its arrival in the client's code: the median."""
COUNT = 60
WORDS = " ".join(f"word{number}" for number in range(COUNT))
NODE_SDK = TOOLS / "openai-node" / ".installed"
SDKS: dict[str, tuple[Path | str | None, str]] = {
    "Python, openai<3": (tool("openai2", "python"), "tests/stack/sdk_stream.py"),
    "Python, openai>=3": (sys.executable, "tests/stack/sdk_stream.py"),
    "Node": (shutil.which("node") if NODE_SDK.exists() else None, "tests/stack/sdk_stream.cjs"),
}

SetLatency = Callable[..., None]
Stream = Callable[..., list[float]]
"""Streams a chat completion by an SDK: the prompt, and after how many chunks the client leaves. Returns their times."""


@pytest.fixture(params=SDKS)
def stream(request: pytest.FixtureRequest, stack: Running) -> Stream:
    program, script = SDKS[request.param]
    if program is None:
        pytest.skip("OpenAI's SDK for Node is not installed")

    def by_sdk(prompt: str, *most: int) -> list[float]:
        times: list[float] = json.loads(run(program, script, stack, MODEL, prompt, *map(str, most)))
        return times

    return by_sdk


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


def test_each_token_comes_when_the_provider_sends_it(stack: Running, latency: SetLatency, stream: Stream) -> None:
    stream("an environment starts")
    latency(between_tokens=TOKEN_SECONDS)
    arrivals = stream(WORDS)
    sent = _log(stack)[-1]["sent"]
    assert len(sent) == len(arrivals) + 1 > COUNT  # one has the usage, which the gateway alone has asked for
    late = [came - left for came, left in zip(arrivals[1:], sent[1:], strict=False)]  # the role waits for a token
    median, p99 = statistics.median(late), statistics.quantiles(late, n=100, method="inclusive")[-1]
    print(f"{len(late)} chunks, late by {1000 * median:.1f} ms (median), {1000 * p99:.1f} ms (p99)")
    assert min(late) > 0
    assert median <= MOST_LATE
    assert arrivals[1] < sent[-1] - (COUNT - 1) * TOKEN_SECONDS


def test_a_stream_is_recorded_with_its_tokens(stack: Running, stream: Stream) -> None:
    before = _spent(stack)
    chunks = stream(WORDS)
    (entry,) = _new(stack, before)
    assert (entry["status"], entry["status_code"], entry["model_group"]) == ("success", 200, MODEL)
    assert entry["completion_tokens"] == len(chunks) - 2  # the first has the role, the last the reason of the end
    assert entry["prompt_tokens"] > 0
    assert entry["spend"] > 0


def test_a_client_that_leaves_is_charged_for_what_came(stack: Running, latency: SetLatency, stream: Stream) -> None:
    latency(between_tokens=TOKEN_SECONDS)
    before = _spent(stack)
    chunks = stream(WORDS, 10)
    (entry,) = _new(stack, before)
    print(f"{len(chunks)} chunks were read, {entry['completion_tokens']} tokens are charged")
    assert (entry["status_code"], entry["error_code"]) == (499, "cancelled")
    assert len(chunks) - 1 <= entry["completion_tokens"] < COUNT // 2
    assert entry["prompt_tokens"] > 0
    assert entry["spend"] > 0


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


def _spent(stack: Running) -> list[dict[str, Any]]:
    """The entries of completions, the newest first."""
    with client(stack) as http:
        entries: list[dict[str, Any]] = http.get("/spend/logs").raise_for_status().json()["data"]
    return entries


def _new(stack: Running, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that are written since, once there is one."""
    known, until = {entry["request_id"] for entry in before}, time.monotonic() + 5
    while not (entries := [entry for entry in _spent(stack) if entry["request_id"] not in known]):
        assert time.monotonic() < until
        time.sleep(0.1)
    return entries


def _log(stack: Running) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = httpx.get(f"{stack.provider_url}/control/log", params={"account": ACCOUNT}).json()
    return log
