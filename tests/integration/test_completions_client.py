"""`clients/completions.py`, and the examples of it, against the app behind a real server."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletion

from clients import completions as helper
from clients.completions import (
    CompletionError,
    batch_completion,
    batch_completion_models,
    batch_completion_models_all_responses,
)
from completions.app import create as create_completions_app
from local.places import DEFAULT_CONFIG, ROOT
from local.provider import Fault, Latency, Simulator, defaults
from tests.support import gateways
from tests.support.gateways import MASTER_KEY
from tests.support.http_server import PYTHONS, serve_app

pytest_plugins = ("tests.support.provider_fixtures",)

MODELS = ["gpt-3.5-turbo", "claude-instant-1.2", "command-nightly"]
HEY = [{"role": "user", "content": "Hey, how's it going"}]


@pytest.fixture(autouse=True)
def base_url(database_url: str, simulated_provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the app, also set in the environment."""
    port = int(simulated_provider.url.rpartition(":")[2])
    variables = {"MANIFOLD_CONFIG": str(DEFAULT_CONFIG), **defaults(port)}
    gateway = gateways.gateway(database_url, variables)
    with serve_app(create_completions_app(gateway), gateway) as url:
        monkeypatch.setenv("MANIFOLD_BASE_URL", url)
        monkeypatch.setenv("MANIFOLD_API_KEY", MASTER_KEY)
        yield url


@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python.parts[-3])
@pytest.mark.parametrize("snippet", ["", "_models", "_models_all_responses"])
def test_the_examples_run(python: Path, snippet: str, simulated_provider: Simulator) -> None:
    done = subprocess.run(
        [python, ROOT / "examples" / f"batch_completion{snippet}.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ChatCompletion(") == {"": 2, "_models": 1, "_models_all_responses": 3}[snippet]


def test_many_prompts_to_one_model(simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="refuse", account="anthropic"))
    prompts = [[{"role": "user", "content": f"number {number}"}] for number in range(3)]

    failed, *answered = batch_completion(model="claude-2", messages=prompts, max_workers=1, max_tokens=50)

    assert isinstance(failed, CompletionError)
    assert failed.type == "invalid_request_error"
    assert all(isinstance(one, ChatCompletion) and one.model == "claude-2" for one in answered)
    assert len(simulated_provider.log("anthropic")) == 3


def test_the_fastest_of_many_models(simulated_provider: Simulator) -> None:
    for slow in ("openai", "cohere"):
        simulated_provider.state.set_latency(slow, Latency(answer=3))

    assert batch_completion_models(models=MODELS, messages=HEY, max_tokens=50).model == "claude-instant-1.2"


@pytest.mark.parametrize("models", [["gpt-3.5-turbo"], "gpt-3.5-turbo"])
def test_litellms_ways_to_call(simulated_provider: Simulator, models: str | list[str]) -> None:
    """Positional arguments, one name in place of a list, and a `model` that is ignored."""
    assert batch_completion_models(models, HEY, model="ignored").model == "gpt-3.5-turbo"
    [answer] = batch_completion_models_all_responses(models, HEY, model="ignored")
    assert isinstance(answer, ChatCompletion)
    assert answer.model == "gpt-3.5-turbo"


def test_no_model_answers(simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="rate_limit", times=None))

    with pytest.raises(openai.RateLimitError, match=r"gpt-3.5-turbo: .*command-nightly: "):
        batch_completion_models(models=MODELS, messages=HEY, num_retries=0)

    assert len(simulated_provider.log()) == 3, "the SDK does not repeat what was tried"


def test_all_models_in_their_order(simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="error", account="anthropic", times=None))

    answers = batch_completion_models_all_responses(models=MODELS, messages=HEY, num_retries=0)

    first, failed, last = answers
    assert isinstance(first, ChatCompletion)
    assert isinstance(failed, CompletionError)
    assert isinstance(last, ChatCompletion)
    assert [first.model, failed.code, last.model] == ["gpt-3.5-turbo", "provider_error", "command-nightly"]
    assert json.loads(first.model_dump_json())["object"] == "chat.completion"


def test_a_word_that_the_sdk_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    post = helper._post
    monkeypatch.setattr(helper, "_post", lambda body: [one | {"service_tier": "on_demand"} for one in post(body)])

    [answer] = batch_completion_models_all_responses(models=["gpt-3.5-turbo"], messages=HEY)

    assert isinstance(answer, ChatCompletion)
    assert answer.choices[0].message.content
    assert answer.to_dict()["service_tier"] == "on_demand"
