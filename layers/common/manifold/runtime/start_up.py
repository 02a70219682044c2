"""What comes before the first invocation: the function's own preparation and, with SnapStart, the snapshot.

Beside its `app`, a function's module may have a `lifecycle`. The protocol of a snapshot:
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-custom.html
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from manifold.runtime.api import RuntimeApi, RuntimeApiError
from manifold.runtime.environment import FunctionVariables

SNAP_START = "snap-start"
BEFORE_SNAPSHOT_ERROR = "Runtime.BeforeSnapshotError"
AFTER_RESTORE_ERROR = "Runtime.AfterRestoreError"
"""As Lambda's own runtime calls them: https://github.com/aws/aws-lambda-python-runtime-interface-client"""


class Lifecycle(Protocol):
    """What a function does before its first invocation, and around a snapshot: `manifold.lifecycle`."""

    async def prepare(self, *, connect: bool = True) -> None: ...

    async def before_snapshot(self) -> None: ...

    async def after_restore(self) -> None: ...


def start(lifecycle: Lifecycle, api: RuntimeApi, runner: asyncio.Runner, function: FunctionVariables) -> None:
    """Prepare the function. With SnapStart this returns in each environment that begins with the snapshot.

    Raises what the lifecycle raises, once Lambda has been told, and `RuntimeApiError`.
    """
    snap_start = function.initialization == SNAP_START
    with _told(api.fail_init):
        runner.run(lifecycle.prepare(connect=not snap_start))
    if snap_start:
        with _told(api.fail_init, BEFORE_SNAPSHOT_ERROR):
            runner.run(lifecycle.before_snapshot())
        api.await_restore()
        with _told(api.fail_restore, AFTER_RESTORE_ERROR):
            runner.run(lifecycle.after_restore())


@contextmanager
def _told(tell: Callable[[BaseException, str | None], None], kind: str | None = None) -> Iterator[None]:
    """Tell Lambda of an error, which goes on."""
    try:
        yield
    except BaseException as error:
        with suppress(RuntimeApiError):  # the error itself matters more
            tell(error, kind)
        raise
