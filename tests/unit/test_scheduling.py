"""The scheduling of tests in several processes (tests/conftest.py)."""

import os
import subprocess
import sys
from pathlib import Path

from local.places import ROOT

TESTS = """
import os
import pytest

@pytest.mark.parametrize("number", range(40))
def test_number(number):
    if number == 30:
        os._exit(1)
"""


def test_a_process_that_dies_fails_its_test_and_loses_no_other(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_xdist_make_scheduler\n")
    (tmp_path / "test_numbers.py").write_text(TESTS)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "xdist",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        tmp_path,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "1 failed, 39 passed" in done.stdout
