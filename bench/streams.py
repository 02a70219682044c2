"""When the tokens of a stream arrive, and what each costs: Manifold, two baselines and LiteLLM's proxy in one run.

The servers are those of `bench.completions`, and so are processors and rounds; the provider streams
(`bench.token_provider`). The baselines pass its bytes on unread, as a floor. Manifold has a row more: its function in
its own runtime, which is what AWS runs, behind `local.front`. Each of its environments has one stream at a time.

*Fast*: the provider sends as fast as it can. The load reads what arrives, and the CPU is that of the server's process.
*Paced*: a token each 20 ms, in about 8 streams at a time. *Late* is each token's time from the provider to the client.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import aiohttp

from bench.completion_servers import BASELINE, RUNTIME, Server, absent, start_servers
from bench.completions import PARALLEL, ROUNDS, connected
from bench.measure import machine, milliseconds, p99, table

PROVIDER = "bench.token_provider"
SENT = re.compile(rb'"content": ?"(\d+) "')
"""A token: when it was sent, in nanoseconds."""
END = b"\n\n"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`streams` in each round, `parallel` of them at a time; of a paced one, these are spread over a stream's time."""

    name: str
    streams: int
    parallel: int
    tokens: int
    pause: int
    """Milliseconds from token to token."""

    @property
    def between_starts(self) -> float:
        """Seconds; one pause more than fits, so that the streams' tokens do not come at the same time."""
        return (self.tokens + 1) * self.pause / 1000 / self.parallel


ALONE = Scenario("fast, one stream", 10, 1, 500, 0)
LOADED = Scenario(f"fast, {PARALLEL} streams", PARALLEL, PARALLEL, 500, 0)
PACED = Scenario("paced, 8 streams", 40, 8, 50, 20)


@dataclass(slots=True)
class Result:
    """Of one server in one scenario."""

    first: list[float] = field(default_factory=list)
    """Seconds from a request to its first token."""
    late: list[float] = field(default_factory=list)
    """Seconds from the provider to the client, of each token."""
    per_second: list[float] = field(default_factory=list)
    """Tokens of all streams, in each round."""
    processor: list[float] = field(default_factory=list)
    """Seconds of the processor for each token, in each round."""


Results = Mapping[tuple[str, str], Result]


def main() -> None:
    print(f"Streams, {machine()}.", flush=True)
    with start_servers(PROVIDER, with_runtime=True) as servers:
        print(_report(asyncio.run(_measure(servers)), servers))


async def _measure(servers: Sequence[Server]) -> Results:
    """In rounds, so that a slow moment of the machine affects all servers alike."""
    results: dict[tuple[str, str], Result] = {}
    async with connected() as session:
        for scenario in (ALONE, LOADED, PACED):
            run = [server for server in servers if scenario is not LOADED or server.name != RUNTIME]
            for _ in range(2):  # the first starts all environments, the second gives each of them a stream
                for server in run:
                    await _load(session, server, replace(scenario, parallel=PARALLEL), Result())
                await _rest(run)
            for _ in range(ROUNDS):
                for server in run:
                    await _load(session, server, scenario, results.setdefault((scenario.name, server.name), Result()))
    return results


async def _rest(servers: Sequence[Server]) -> None:
    """Wait until none has anything to do: environments that no stream waited for may still start."""
    used = [server.processor() for server in servers]
    while True:
        await asyncio.sleep(1)
        if used == (used := [server.processor() for server in servers]):
            return


async def _load(session: aiohttp.ClientSession, server: Server, scenario: Scenario, result: Result) -> None:
    """One round. Raises `RuntimeError` if a stream fails or is not whole."""
    began, used = time.perf_counter(), server.processor()
    if scenario.pause:
        await asyncio.gather(
            *(
                _stream(session, server, scenario, result, after=number * scenario.between_starts)
                for number in range(scenario.streams)
            )
        )
    else:
        left = iter(range(scenario.streams))

        async def client() -> None:
            for _ in left:
                await _stream(session, server, scenario, result)

        await asyncio.gather(*(client() for _ in range(scenario.parallel)))
    tokens = scenario.streams * scenario.tokens
    result.per_second.append(tokens / (time.perf_counter() - began))
    result.processor.append((server.processor() - used) / tokens)


async def _stream(
    session: aiohttp.ClientSession, server: Server, scenario: Scenario, result: Result, after: float = 0.0
) -> None:
    await asyncio.sleep(after)
    prompt = [{"role": "user", "content": f"{scenario.tokens} {scenario.pause}"}]
    body = {"model": "m1", "messages": prompt, "stream": True}
    late: list[float] = []
    began, rest = time.perf_counter(), b""
    async with session.post(
        f"{server.url}/chat/completions", json=body, headers={"authorization": f"Bearer {server.key}"}
    ) as answer:
        async for piece in answer.content.iter_any():
            now = time.monotonic_ns()
            whole, end, rest = (rest + piece).rpartition(END)
            sent = [int(token) for token in SENT.findall(whole + end)]
            if sent and not late:
                result.first.append(time.perf_counter() - began)
            late += [(now - one) / 1e9 for one in sent]
    if answer.status != 200 or len(late) != scenario.tokens or not whole.endswith(b"[DONE]"):
        raise RuntimeError(
            f"{server.name} answered {answer.status}, {len(late)} tokens: {(whole + end + rest)[:300]!r}"
        )
    result.late += late


def _report(results: Results, servers: Sequence[Server]) -> str:
    compared = ("rate ÷ floor", "CPU ÷ floor", "rate ÷ LiteLLM", "CPU ÷ LiteLLM")
    fast = ("", "tokens/s", "CPU µs/token", "first token ms", "added ms", *compared)
    lateness = ("late ms", "p99 late", "added late ÷ floor", "÷ LiteLLM")
    paced = ("", "first token ms", "added ms", "p99 added", *lateness, "CPU µs/token")
    return "\n\n".join(
        (
            table(fast, [*_fast(results, ALONE, servers), *_fast(results, LOADED, servers)]),
            table(paced, _paced(results, servers)),
            f"The floor is the baseline on aiohttp. What is added is added to direct.{absent(servers)}",
        )
    )


def _fast(results: Results, scenario: Scenario, servers: Sequence[Server]) -> Iterable[Sequence[str]]:
    direct = median(results[scenario.name, "direct"].first)
    for server, result in _of(results, scenario, servers):
        rate, used, first = median(result.per_second), median(result.processor), median(result.first)
        ratios: list[str] = []
        for other in (results.get((scenario.name, name)) for name in (BASELINE, "litellm")):
            ratios += _ratios(rate, used, other) if server != "direct" else ("", "")
        name = f"{scenario.name}: {server}"
        yield name, f"{rate:.0f}", f"{used * 1e6:.0f}", milliseconds(first), milliseconds(first - direct), *ratios


def _ratios(rate: float, used: float, other: Result | None) -> tuple[str, str]:
    if other is None:
        return "", ""
    return f"{rate / median(other.per_second):.2f}", f"{used / median(other.processor):.2f}"


def _paced(results: Results, servers: Sequence[Server]) -> Iterable[Sequence[str]]:
    direct = results[PACED.name, "direct"]
    for server, result in _of(results, PACED, servers):
        first = median(result.first)
        others = [results.get((PACED.name, name)) for name in (BASELINE, "litellm")]
        yield (
            f"{PACED.name}: {server}",
            milliseconds(first),
            *map(milliseconds, (first - median(direct.first), p99(result.first) - median(direct.first))),
            *map(milliseconds, (median(result.late), p99(result.late))),
            *(
                f"{_added(result, direct) / _added(other, direct):.2f}" if other and server != "direct" else ""
                for other in others
            ),
            f"{1e6 * median(result.processor):.0f}",
        )


def _added(result: Result, direct: Result) -> float:
    return median(result.late) - median(direct.late)


def _of(results: Results, scenario: Scenario, servers: Sequence[Server]) -> Iterable[tuple[str, Result]]:
    for server in servers:
        if (result := results.get((scenario.name, server.name))) is not None:
            yield server.name, result


if __name__ == "__main__":
    main()
