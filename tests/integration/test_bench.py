"""The benchmarks run to their end and report on every function. No test compares durations."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import ROOT, large_batch
from bench.batch_rounds import STEPS
from bench.imports import NEEDS, packages
from bench.lines import ORDERS, File
from manifold.config import load
from manifold.jsonl.check import Check


def report(*arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """The lines that `python -m …` prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("function", NEEDS)
def test_a_function_loads_no_package_beyond_its_needs(function: str) -> None:
    assert packages(function) <= packages(*NEEDS[function])


def test_imports_are_compared_with_their_needs() -> None:
    lines = report("bench.imports", "--pairs", "1", "admin.app")

    assert [line for line in lines if line.startswith("admin.app ")]


def test_handlers_are_compared_with_a_bare_route(database_server: str) -> None:
    lines = report("bench.handlers", "--requests", "1", environment={"DATABASE_URL": database_server})

    for name in ("GET /batches/{id}, ended ", "GET /files/{id} ", "POST /batches ", "poller: 50 running jobs "):
        assert [line for line in lines if line.startswith(name)]


def test_a_run_of_the_poller_asks_for_every_healthy_job(database_server: str) -> None:
    few = ("--jobs", "20", "--deployments", "2", "--milliseconds", "1", "--timeout", "0.3")
    lines = report("bench.poller", *few, environment={"DATABASE_URL": database_server})

    for case, asked in (("20 at 2 ", "20 of 20"), ("20 at 2, one of them hung", "10 of 10"), ("20 at 1 ", "20 of 20")):
        assert [line for line in lines if line.startswith(case) and asked in line]


def test_a_batch_is_compared_with_the_providers_calls_and_with_another_checkout(database_server: str) -> None:
    few = ("--rounds", "1", "--lines", "3", "--history", "2", "--baseline", str(ROOT))
    lines = report("bench.batches", *few, environment={"DATABASE_URL": database_server})

    for step in STEPS:
        for end in (", this checkout ", ", the baseline ", ", times the baseline "):
            assert [line for line in lines if line.startswith(step + end)]


def test_the_line_engine_is_compared_for_every_order() -> None:
    lines = report("bench.lines", "--megabytes", "1", "--rounds", "1")

    for name in ("orjson.loads ", "check ", "rewrite ", "replicate ", *(f"{order} " for order in ORDERS)):
        assert [line for line in lines if line.startswith(name)]


def test_each_deployment_of_the_large_batch_has_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(large_batch.configuration(limit=7))
    config = load(file, lambda name: name)

    assert not config.warnings
    for groups in ([large_batch.GROUP], [f"{large_batch.GROUP}-{number}" for number in range(4)]):
        assert [one.limits.batch_requests for one in config.deployments if one.group in groups] == [7] * 4


def test_an_answer_that_is_missing_or_repeated_is_noticed() -> None:
    answers = large_batch.Answers(3)
    for number in (0, 1, 1):
        answers.count(f"request-{number:07}", f"echo: {number:07} xx")

    with pytest.raises(AssertionError, match=r"2 lines were not answered once, such as \[1, 2\]"):
        answers.check()
    with pytest.raises(AssertionError):
        answers.count("request-0000002", "echo: 0000001 xx")


def test_the_token_estimate_is_compared_for_every_text() -> None:
    lines = report("bench.tokens")

    for name in ("English ", "Japanese ", "Python "):
        assert [line for line in lines if line.startswith(name)]


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_members_is_recognised_as_common(order: str) -> None:
    check = Check()
    check.feed(File.of(50_000, ORDERS[order]).data)

    assert check.finish().common


def test_own_execution_is_compared_with_a_bare_script() -> None:
    lines = report("bench.own_execution", "--requests", "200", "--milliseconds", "20", "--claims", "1")
    rows = [line for line in lines if " x 64 calls" in line or line.startswith("a bare script")]
    assert len(rows) == 4
    assert any("claims in a second" in line for line in lines)


def test_the_start_of_completions_is_measured_piece_by_piece(database_server: str) -> None:
    lines = report("bench.first_request", "--rounds", "1", environment={"DATABASE_URL": database_server})
    for name in ("the first request ", "from a snapshot: the first request ", "importing completions.app ", "aiohttp "):
        assert [line for line in lines if line.startswith(name)]
