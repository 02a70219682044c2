"""Runs under faults find mistakes: each broken gateway fails one within a few seeds, and the real one none of them."""

import pytest

from tests.faults.database import ServerDatabase
from tests.faults.mutants import MUTANTS, Mutant
from tests.faults.run import Broken, run

pytest_plugins = ("tests.support.faults_fixtures",)

SEEDS = range(2_000_001, 2_000_061)


def seed_that_breaks(database: ServerDatabase, dialect: str | None) -> int | None:
    for seed in SEEDS:
        try:
            run(database, seed, dialect=dialect)
        except Broken:
            return seed
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_gateway_is_caught(faults_database: ServerDatabase, mutant: Mutant) -> None:
    with mutant.applied():
        assert seed_that_breaks(faults_database, mutant.dialect) is not None
