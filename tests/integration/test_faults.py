"""The short form of `make test-faults`: runs of the whole system under faults, with seeds of their own."""

import pytest

from tests.faults.database import ServerDatabase
from tests.faults.dialects import NAMES
from tests.faults.run import run

pytest_plugins = ("tests.support.faults_fixtures",)

SEEDS = range(1_000_000, 1_000_040)
TOGETHER = 5
FOR_EACH_DIALECT = 4


@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
def test_every_invariant_holds_after_a_run_with_faults(faults_database: ServerDatabase, first: int) -> None:
    for seed in range(first, first + TOGETHER):
        run(faults_database, seed)


@pytest.mark.parametrize("dialect", NAMES)
def test_every_invariant_holds_after_runs_with_the_dialect(faults_database: ServerDatabase, dialect: str) -> None:
    for seed in SEEDS[:FOR_EACH_DIALECT]:
        run(faults_database, seed, dialect=dialect)


def test_a_seed_gives_the_same_run_again(faults_database: ServerDatabase) -> None:
    first, again = (run(faults_database, SEEDS[0]).trace.text(10_000) for _ in range(2))

    assert first == again
