"""Answers that take minutes, and large ones: through the streamed routes of the deployed stack, and buffered."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from local.places import ROOT
from local.running import Running

MODEL, ACCOUNT = "gpt-3.5-turbo", "openai"
OTHER_MODEL, OTHER_ACCOUNT = "claude-2", "anthropic"
WORDS = " ".join(f"word{number}" for number in range(20))
LONG_SECONDS = 90.0
PROMPTS, AT_ONCE, EACH_SECONDS = 30, 2, 4.0
LAMBDA_BYTES = 6_291_556
FAN_OUT_SECONDS = PROMPTS / AT_ONCE * EACH_SECONDS

SetLatency = Callable[..., None]


@pytest.fixture
def latency(stack: Running) -> Iterator[SetLatency]:
    """Sets how long an account's models take, for one test."""

    def take(account: str, **seconds: float) -> None:
        httpx.post(f"{stack.provider_url}/control/latency/{account}", json=seconds).raise_for_status()

    yield take
    take(ACCOUNT)
    take(OTHER_ACCOUNT)


def client(stack: Running) -> httpx.Client:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    return httpx.Client(base_url=stack.base_url, headers=headers, timeout=120)


def buffered(stack: Running, **body: Any) -> dict[str, Any]:
    """The function's response to an invocation, as API Gateway gets it where the route does not stream."""
    event = json.loads((ROOT / "events" / "chat.completions.create.json").read_text())
    for name in [name for name in event["headers"] if name.lower() == "authorization"]:
        event["headers"][name] = f"Bearer {stack.api_key}"
        event["multiValueHeaders"][name] = [event["headers"][name]]
    event["requestContext"]["requestTimeEpoch"] = int(time.time() * 1000)
    event |= {"body": json.dumps(body), "isBase64Encoded": False}
    answer = stack.aws.client("lambda").invoke(
        FunctionName=stack.outputs["CompletionsApiName"], Payload=json.dumps(event)
    )
    response: dict[str, Any] = json.loads(answer["Payload"].read())
    return response


def prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def pieces(stack: Running, **body: Any) -> list[tuple[float, bytes]]:
    """What came of an answer, and when: seconds from the request."""
    began = time.monotonic()
    with client(stack) as http, http.stream("POST", "/chat/completions", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        return [(time.monotonic() - began, piece) for piece in answer.iter_raw()]


def test_a_completion_of_90_seconds_and_a_fan_out_of_60(stack: Running, latency: SetLatency) -> None:
    latency(ACCOUNT, answer=LONG_SECONDS)
    latency(OTHER_ACCOUNT, answer=EACH_SECONDS)
    several = [prompt(f"{WORDS} {number}") for number in range(PROMPTS)]
    with ThreadPoolExecutor() as pool:
        plain = pool.submit(pieces, stack, model=MODEL, messages=prompt(WORDS))
        events = pool.submit(pieces, stack, model=MODEL, messages=prompt(WORDS), stream=True)
        fanned = pool.submit(pieces, stack, model=OTHER_MODEL, messages=several, max_workers=AT_ONCE)

    *_, (ended, content) = plain.result()
    assert ended > LONG_SECONDS
    assert "word19" in json.loads(content)["choices"][0]["message"]["content"]

    *_, (ended, _) = events.result()
    text = b"".join(piece for _, piece in events.result()).decode()
    assert ended > LONG_SECONDS
    assert text.startswith(": "), "a comment keeps it alive until the first token"
    assert "word19" in text
    assert text.endswith("data: [DONE]\n\n")

    arrived = [at for at, piece in fanned.result() if b"word19" in piece]
    print(f"of {PROMPTS} answers the first came after {arrived[0]:.1f} s, the last after {arrived[-1]:.1f}")
    answers = json.loads(b"".join(piece for _, piece in fanned.result()))
    assert [one["choices"][0]["message"]["content"].rpartition(" ")[2] for one in answers] == [
        str(number) for number in range(PROMPTS)
    ]
    assert arrived[-1] >= FAN_OUT_SECONDS
    assert arrived[0] < 2 * EACH_SECONDS
    assert len(arrived) >= PROMPTS / AT_ONCE, "each pair comes when it is there"


def test_an_answer_of_20_mb(stack: Running) -> None:
    """Seven prompts, of each of which there are 128 answers of 24 KB. Lambda would hold 6 MB of them."""
    body = {"model": MODEL, "n": 128, "messages": [prompt("a long text " * 2_000)] * 7}
    with client(stack) as http:
        answer = http.post("/chat/completions", json=body)
        assert answer.status_code == 200, answer.text[:1000]
        assert len(answer.content) > 20_000_000
        assert [len(one["choices"]) for one in answer.json()] == [128] * 7

    held = buffered(stack, **body)
    assert held["statusCode"] == 200, str(held)[:1000]
    assert len(held["body"]) < LAMBDA_BYTES
    codes = [one["error"]["code"] if "error" in one else None for one in json.loads(held["body"])]
    assert codes == [None, None, *["response_too_large"] * 5]


def test_a_buffered_stream_comes_as_a_whole(stack: Running, latency: SetLatency) -> None:
    latency(ACCOUNT, between_tokens=0.1)
    held = buffered(stack, model=MODEL, messages=prompt(WORDS), stream=True)
    assert held["statusCode"] == 200
    assert held["body"].endswith("data: [DONE]\n\n")
