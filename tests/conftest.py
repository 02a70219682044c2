"""For all tests: where a support module asserts, pytest explains it as in a test; and which run in one process."""

from pathlib import PurePath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

pytest.register_assert_rewrite("tests.support")

TOGETHER = ("tests/stack/*", "tests/integration/*_memory.py", "tests/integration/test_events.py")
"""Tests that share what is expensive to start, or take so much memory that two at once are too many."""


class Scheduling(LoadScopeScheduling):
    """Each test goes to the process that is free, but those of `TOGETHER` to one, which starts with them."""

    def _split_scope(self, nodeid: str) -> str:
        module = PurePath(nodeid.partition("::")[0])
        return next((pattern for pattern in TOGETHER if module.match(pattern)), nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """The test that ended its process, which fails, and is not run again; those that waited there go to others.

        xdist's own hands out all units of that process again, also those without a test that is left. A process that
        gets only such units reports nothing, so it gets no more: the run would not end.
        """
        units = self.assigned_work.pop(node).items()
        left = [(scope, nodeid) for scope, unit in units for nodeid, completed in unit.items() if not completed]
        for scope, nodeid in left[1:]:
            self.workqueue.setdefault(scope, {})[nodeid] = False
        if left:
            for other in self.assigned_work:
                self._reschedule(other)
        return left[0][1] if left else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pooled", action="store_true", help="put PgBouncer in transaction mode before the database")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)
