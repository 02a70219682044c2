"""The time that a gateway adds to a completion, and its rate: Manifold, two baselines and LiteLLM's proxy in one run.

All call the same local provider, which answers at once. Each server is one process on one processor; the load, the
provider and Postgres have the other. Manifold's figures include its key lookup and its usage record in a real Postgres;
*tuned*, it has prepared statements and caches a key for 5 seconds. LiteLLM runs without a database, and does neither.
The baselines forward one call by FastAPI: one on aiohttp, which is Manifold's transport, and one on httpx.

*CPU* is the processor time of the server's process for each request at full load: on a shared machine the clock also
measures other programs.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import aiohttp

from bench.completion_servers import BASELINE, BASELINES, MODELS, TUNED, Server, absent, start_servers
from bench.measure import machine, milliseconds, p99, table

PROMPT = [{"role": "user", "content": "Say hello, please."}]
ROUNDS = 5
ALONE = 500
"""Requests one after the other, for the latency."""
PARALLEL = 32
LOADED = 4000
"""Requests `PARALLEL` at a time, for the throughput."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A request, the number of provider calls that it makes, and the servers that are measured with it."""

    name: str
    calls: int
    body: Mapping[str, Any]
    servers: frozenset[str]


@dataclass(slots=True)
class Result:
    seconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


EVERYWHERE = frozenset({"direct", *BASELINES, "manifold", TUNED, "litellm"})
GATEWAYS = frozenset({"manifold", "litellm"})
SCENARIOS = (
    Scenario("one model", 1, {"model": "m1", "messages": PROMPT}, EVERYWHERE),
    Scenario("four models, all", 4, {"model": ",".join(MODELS), "messages": PROMPT}, GATEWAYS),
    Scenario(
        "four models, fastest",
        4,
        {"model": ",".join(MODELS), "messages": PROMPT, "fastest_response": True},
        GATEWAYS,
    ),
    Scenario("100 prompts to one", 100, {"model": "m1", "messages": [PROMPT] * 100}, frozenset({"manifold"})),
)


def main() -> None:
    print(f"Completions, {machine()}.", flush=True)
    with start_servers() as servers:
        print(_report(asyncio.run(_measure(servers)), servers))


def connected() -> aiohttp.ClientSession:
    """The load's session, in the running event loop: as many connections as there are requests."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2))


async def _measure(servers: Sequence[Server]) -> dict[tuple[str, str], Result]:
    """In rounds, so that a slow moment of the machine affects all servers alike."""
    results: dict[tuple[str, str], Result] = {}
    async with connected() as session:
        for scenario in SCENARIOS:
            run = [server for server in servers if server.name in scenario.servers]
            for server in run:
                await _load(session, server, scenario, 20, 4)
            for _ in range(ROUNDS):
                for server in run:
                    result = results.setdefault((scenario.name, server.name), Result())
                    result.seconds += await _load(
                        session, server, scenario, ALONE // ROUNDS // min(scenario.calls, 10), 1
                    )
                    began, used = time.perf_counter(), server.processor()
                    count = LOADED // ROUNDS // min(scenario.calls, 50)
                    await _load(session, server, scenario, count, min(PARALLEL, count))
                    result.per_second.append(count / (time.perf_counter() - began))
                    result.processor.append((server.processor() - used) / count)
    return results


async def _load(
    session: aiohttp.ClientSession, server: Server, scenario: Scenario, count: int, parallel: int
) -> list[float]:
    """The seconds of each of `count` requests, `parallel` at a time. Raises `RuntimeError` if one fails."""
    left = iter(range(count))
    seconds: list[float] = []

    async def client() -> None:
        for _ in left:
            began = time.perf_counter()
            headers = {"authorization": f"Bearer {server.key}"}
            async with session.post(f"{server.url}/chat/completions", json=scenario.body, headers=headers) as answer:
                content = await answer.read()
            seconds.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"{server.name} answered {answer.status}: {content[:300]!r}")

    await asyncio.gather(*(client() for _ in range(parallel)))
    return seconds


def _report(results: Mapping[tuple[str, str], Result], servers: Sequence[Server]) -> str:
    direct = median(results["one model", "direct"].seconds)
    baseline = results["one model", BASELINE]
    rows = []
    for (scenario, server), result in results.items():
        taken, rate, used = median(result.seconds), median(result.per_second), median(result.processor)
        compared = (
            f"{taken / median(baseline.seconds):.2f}",
            f"{(taken - direct) / (median(baseline.seconds) - direct):.2f}",
            f"{rate / median(baseline.per_second):.2f}",
            f"{used / median(baseline.processor):.2f}",
        )
        rows.append(
            (
                f"{scenario}: {server}",
                *map(milliseconds, (taken, taken - direct, p99(result.seconds) - direct)),
                f"{rate:.0f}",
                milliseconds(used),
                *(compared if scenario == "one model" and server != "direct" else [""] * len(compared)),
            )
        )
    header = (
        "",
        "median ms",
        "added ms",
        "p99 added",
        "requests/s",
        "CPU ms",
        "time ÷ baseline",
        "added ÷",
        "rate ÷",
        "CPU ÷",
    )
    return f"{table(header, rows)}\nThe last four columns compare with the baseline on aiohttp.{absent(servers)}"


if __name__ == "__main__":
    main()
