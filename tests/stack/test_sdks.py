"""The deployed stack, driven by unmodified OpenAI SDKs of both lines."""

import time
from pathlib import Path

import httpx

from local.running import Running
from tests.support.sdk_scripts import run


def test_the_walkthrough(python: Path, stack: Running) -> None:
    before = _quiet(stack)
    assert run(python, "examples/batch_walkthrough.py", stack).endswith("demo: ok\n")
    assert sorted((upload["account"], *upload["models"]) for upload in _uploads(stack)[before:]) == [
        ("azure-general", "gpt-4o-mini-general-deployment"),
        ("azure-special", "gpt-4o-mini-special-deployment"),
    ]


def test_every_answer_has_the_sdks_strict_types(python: Path, stack: Running) -> None:
    assert run(python, "tests/stack/sdk_session.py", stack).startswith("ok with openai")


def test_all_parameters(python: Path, stack: Running) -> None:
    assert run(python, "tests/stack/sdk_parameters.py", stack).startswith("ok with openai")


def _quiet(stack: Running) -> int:
    """How many files the provider was sent, once those of earlier tests have come."""
    count = -1
    while count != (count := len(_uploads(stack))):
        time.sleep(3)
    return count


def _uploads(stack: Running) -> list[dict[str, str]]:
    """The files that the simulated provider was sent, oldest first."""
    answer = httpx.get(f"{stack.provider_url}/control/log", params={"route": "files.create"})
    uploads: list[dict[str, str]] = answer.raise_for_status().json()
    return uploads
