"""The time of a batch in the gateway itself: its provider answers at once, and messages arrive at once.

    python -m bench.batches [--rounds N] [--lines N] [--history N] [--baseline CHECKOUT]

Each round runs one batch through the handlers, in turn with the provider's bare calls, and with `--baseline` in turn
with the same round by another checkout of Manifold. Postgres is real, and has a history of ended batches; the provider
is another process, `bench.instant_batches`; S3 and SQS are in memory. `bench.batch_rounds` runs the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psycopg
import yaml
from psycopg import sql

from bench import ROOT
from bench.batch_rounds import GROUP, MASTER_KEY, PROVIDER_KEY, STEPS, Step
from bench.measure import machine, milliseconds, table
from local.processes import Service, free_port
from tests.support import postgres

WARM_UP = 5
COPIED = ("files", "inputs", "batches", "shards", "jobs", "usage")
"""The tables of a batch, those that are referred to first."""
OURS = "this checkout"


class Checkout:
    """A process that runs rounds by the code of one checkout, with a database of its own."""

    def __init__(self, code: Path, database_url: str, variables: Mapping[str, str], stack: ExitStack) -> None:
        path = os.pathsep.join(str(code / part) for part in ("layers/common", "functions"))
        environment = {**os.environ, **variables, "DATABASE_URL": database_url, "BENCH_CODE": str(code)}
        self._process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "bench.batch_rounds"],
                cwd=ROOT,
                env={**environment, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self._process.terminate)
        self._line()

    def round(self) -> list[Step]:
        """Run one batch."""
        assert self._process.stdin is not None
        print("next", file=self._process.stdin, flush=True)
        return [Step(**step) for step in json.loads(self._line())]

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a round failed; its error is above")
        return line


Measured = Mapping[str, Mapping[str, Sequence[Step]]]
"""By checkout and by name: the steps of all rounds."""


def measure(checkouts: Mapping[str, Path], rounds: int, lines: int, history: int) -> Measured:
    """Run so many rounds by each checkout, in turn."""
    steps: dict[str, dict[str, list[Step]]] = {name: defaultdict(list) for name in checkouts}
    with ExitStack() as stack:
        server, variables = stack.enter_context(postgres.server()), stack.enter_context(_provider(lines))
        processes = {}
        for name, code in checkouts.items():
            url = stack.enter_context(postgres.database(server))
            processes[name] = Checkout(code, url, variables, stack)
            processes[name].round()
            _write_history(url, history)
        for number in range(WARM_UP + rounds):
            for name in sorted(processes, reverse=bool(number % 2)):
                measured = processes[name].round()
                for step in measured if number >= WARM_UP else ():
                    steps[name][step.name].append(step)
    return steps


@contextmanager
def _provider(lines: int) -> Iterator[dict[str, str]]:
    """The variables of a process that runs rounds with a provider of its own."""
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as name:
        directory = Path(name)
        params = {"model": "openai/gpt-4o-mini", "api_base": f"{url}/v1", "api_key": PROVIDER_KEY}
        model = {"model_name": GROUP, "litellm_params": params, "model_info": {"id": "one", "mode": "batch"}}
        config = {"model_list": [model], "general_settings": {"master_key": MASTER_KEY}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        service = Service("provider", directory)
        command = [sys.executable, "-m", "bench.instant_batches", "--port", str(port), "--lines", str(lines)]
        service.start(command, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, ROOT)
        try:
            service.await_answer(f"{url}/calls", 20)
            yield {"MANIFOLD_CONFIG": str(directory / "config.yaml"), "PROVIDER_URL": url, "LINES": str(lines)}
        finally:
            service.stop()


def _write_history(database_url: str, copies: int) -> None:
    """Copy the rows of the batches that have run so often, each time with other ids."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        tables = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        for name in COPIED:
            if name in tables:
                connection.execute(
                    sql.SQL(
                        r"""INSERT INTO {table} SELECT copy.* FROM {table} original,
                            generate_series(1, {copies}) nth_copy,
                            LATERAL jsonb_populate_record(NULL::{table}, regexp_replace(to_jsonb(original)::text,
                                ': "((file|input|batch|job|shard)[-_](?!output")[^"]*)"', ': "\1-' || nth_copy || '"',
                                'g')::jsonb) copy"""
                    ).format(table=sql.Identifier(name), copies=sql.Literal(copies))
                )
        connection.execute("ANALYZE")


def report(measured: Measured) -> str:
    """The table of all steps; with two checkouts, also how they compare."""
    rows = [
        _row(f"{step}, {name}" if len(measured) > 1 else step, steps[step])
        for step in STEPS
        for name, steps in measured.items()
    ]
    header = ("step", "ms", "range", "processor ms", "statements", "messages", "S3 calls", "provider calls")
    parts = [table((*header, "bare calls, ms", "ratio"), rows)]
    if len(measured) > 1:
        parts += ["", table(("step", "ms", "processor ms"), _comparison(*measured.values()))]
    return "\n".join(parts)


def _row(name: str, steps: Sequence[Step]) -> tuple[str, ...]:
    taken, bare = _median(steps, "seconds"), _median(steps, "bare")
    times = sorted(step.seconds for step in steps)
    return (
        name,
        milliseconds(taken),
        f"{milliseconds(times[0])} to {milliseconds(times[-1])}",
        milliseconds(_median(steps, "processor")),
        *(f"{_median(steps, counted):.0f}" for counted in ("statements", "messages", "storage", "calls")),
        milliseconds(bare),
        f"{taken / bare:.2f}",
    )


def _comparison(ours: Mapping[str, Sequence[Step]], theirs: Mapping[str, Sequence[Step]]) -> Iterator[tuple[str, ...]]:
    """For each step the ratio of the medians, ours to theirs."""
    for name in STEPS:
        ratios = (_median(ours[name], what) / _median(theirs[name], what) for what in ("seconds", "processor"))
        yield (f"{name}, times the baseline", *(f"{ratio:.2f}" for ratio in ratios))


def _median(steps: Sequence[Step], what: str) -> float:
    return float(median(getattr(step, what) for step in steps))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--lines", type=int, default=100, help="of the batch; the output may have 4 MiB")
    parser.add_argument("--history", type=int, default=10_000, help="batches that have ended before")
    parser.add_argument("--baseline", type=Path, help="another checkout of Manifold, to be compared")
    args = parser.parse_args()
    print(f"A batch of {args.lines:,} lines through the handlers, {args.rounds} times; its provider answers at once.")
    print(f"{machine()}. Medians; a ratio is that to the provider's bare calls.\n", flush=True)
    checkouts = {OURS: ROOT} | ({"the baseline": args.baseline.resolve()} if args.baseline else {})
    print(report(measure(checkouts, args.rounds, args.lines, args.history)))


if __name__ == "__main__":
    main()
