"""For all tests: where a support module asserts, pytest explains it as in a test; and which run in one process."""

from pathlib import PurePath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("tests.support")

TOGETHER = ("tests/stack/*", "tests/integration/*_memory.py", "tests/integration/test_events.py")
"""Tests that share what is expensive to start, or take so much memory that two at once are too many."""


class Scheduling(LoadScopeScheduling):
    """Each test goes to the process that is free, but those of `TOGETHER` to one, which starts with them."""

    def _split_scope(self, nodeid: str) -> str:
        module = PurePath(nodeid.partition("::")[0])
        return next((pattern for pattern in TOGETHER if module.match(pattern)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)
