"""The examples of batch completion against the deployed stack, by both lines of OpenAI's SDK."""

import subprocess
from pathlib import Path

import pytest

from local.places import ROOT
from local.running import Running


@pytest.mark.parametrize(
    ("example", "answers"),
    [("batch_completion", 2), ("batch_completion_models", 1), ("batch_completion_models_all_responses", 3)],
)
def test_an_example(example: str, answers: int, python: Path, stack: Running) -> None:
    done = subprocess.run(
        [python, ROOT / "examples" / f"{example}.py"],
        env={"PYTHONPATH": str(ROOT), "MANIFOLD_BASE_URL": stack.base_url, "MANIFOLD_API_KEY": stack.api_key},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ChatCompletion(") == answers
