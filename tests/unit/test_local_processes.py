"""Processes that outlive their command: only those that were started are ended."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.errors import StackError
from local.processes import Service

SLEEP = "import time; time.sleep(60)"
WITH_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service("thing", tmp_path)
    yield service
    service.stop()


def run(service: Service, code: str) -> None:
    service.start([sys.executable, "-c", code], dict(os.environ), Path("/"))


def recorded(directory: Path) -> psutil.Process:
    return psutil.Process(json.loads((directory / "thing.pid").read_text())["pid"])


def test_another_command_ends_it(service: Service, tmp_path: Path) -> None:
    run(service, SLEEP)
    later = Service("thing", tmp_path)
    assert later.is_running()
    later.stop()
    assert not later.is_running()
    assert not service.is_running()


def test_its_children_end_with_it(service: Service, tmp_path: Path) -> None:
    run(service, WITH_CHILD)
    process = recorded(tmp_path)
    while not (children := process.children()):
        pass
    service.stop()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_one_that_does_not_listen_is_made_to_end(service: Service) -> None:
    run(service, STUBBORN)
    while "deaf" not in service.log.read_text():
        pass
    service.stop(grace=0.2)
    assert not service.is_running()


def test_a_process_that_got_the_id_later_is_left_alone(service: Service, tmp_path: Path) -> None:
    run(service, SLEEP)
    process = recorded(tmp_path)
    record = tmp_path / "thing.pid"
    true_record = record.read_text()
    record.write_text(json.dumps({"pid": process.pid, "created": process.create_time() - 1}))
    Service("thing", tmp_path).stop()
    assert process.status() != psutil.STATUS_ZOMBIE
    record.write_text(true_record)


def test_stopping_what_never_ran_does_nothing(service: Service) -> None:
    service.stop()


def test_one_that_ends_as_it_starts_shows_its_log(service: Service) -> None:
    run(service, "print('no such option')")
    with pytest.raises(StackError, match=r"(?s)thing ended as it started.*no such option"):
        service.await_answer("http://127.0.0.1:9/", 30)
