"""The benches run to their end and report on every function; what they measure is no test's business."""

import os
import subprocess
import sys

import pytest

from bench import ROOT
from bench.imports import NEEDS


def run(*arguments: str, database_url: str | None = None) -> str:
    environment = {**os.environ, "DATABASE_URL": database_url} if database_url else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_handlers_are_compared_with_a_bare_route(database_server: str) -> None:
    report = run("bench.handlers", "--requests", "1", database_url=database_server)

    measured = {line.rsplit(None, 4)[0].strip() for line in report.splitlines()[5:]}
    assert {"GET /batches/{id}, ended", "GET /files/{id}", "POST /batches", "poller: 50 running jobs"} <= measured


@pytest.mark.parametrize("function", NEEDS)
def test_a_function_loads_no_package_beyond_its_needs(function: str) -> None:
    assert "-" in run("bench.imports", "--pairs", "1", function).splitlines()[4].split()
