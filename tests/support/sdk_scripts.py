"""Runs a script that uses an OpenAI SDK against a running stack."""

import subprocess
from pathlib import Path

from local.places import ROOT
from local.running import Running

SECONDS = 300


def run(python: Path | str, script: str, stack: Running, *arguments: str) -> str:
    """What the script prints. It fails the test where it does not end well, or in time."""
    done = subprocess.run(
        [python, ROOT / script, *arguments],
        env=stack.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
