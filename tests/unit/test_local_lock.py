"""One command at a time works on a stack."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.errors import StackError
from local.lock import Lock
from local.stack import Stack

HOLD = """
import sys, time
from pathlib import Path
from local.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Lock]:
    lock = Lock(tmp_path / "stack.lock")
    lock.acquire()
    yield lock
    lock.release()


@pytest.mark.usefixtures("held")
def test_a_second_command_is_told_which_process_holds_the_lock(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=rf"process {os.getpid()}\).*{tmp_path / 'stack'}\."):
        Lock(tmp_path / "stack.lock").acquire()


def test_a_released_lock_can_be_taken(held: Lock, tmp_path: Path) -> None:
    held.acquire()
    held.release()
    assert list(tmp_path.iterdir()) == []
    second = Lock(tmp_path / "stack.lock")
    second.acquire()
    second.release()
    second.release()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "stack.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StackError, match=f"process {process.pid}"):
            Lock(file).acquire()
        process.kill()
        process.wait()
    lock = Lock(file)
    lock.acquire()
    lock.release()


@pytest.mark.usefixtures("held")
def test_a_stack_that_another_command_has_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "stack").mkdir()
    stack = Stack(tmp_path / "stack", tmp_path / "no-such-config.yaml", given={})
    for command in (stack.up, stack.down):
        with pytest.raises(StackError, match="Another command"):
            command()
    assert (tmp_path / "stack").exists()
