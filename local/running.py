"""A stack that is up: where its parts are, the keys to them, and the first calls to it."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from local.emulator import Emulator
from local.errors import StackError

_SECONDS = 60.0  # a cold start on a busy machine


@dataclass(frozen=True, slots=True)
class Running:
    """Where a stack's parts are, and the keys to them."""

    base_url: str
    """The OpenAI SDK's."""
    api_key: str
    """A virtual key that may use every model group."""
    master_key: str
    provider_url: str
    """The simulated provider's, with its `/control` routes."""
    aws_url: str
    database_url: str
    outputs: dict[str, str]
    """What the template puts out: names of functions, URLs of queues, the bucket."""

    @property
    def aws(self) -> Emulator:
        return Emulator(self.aws_url)

    def environment(self) -> dict[str, str]:
        """The variables that the OpenAI SDK itself reads, and the master key."""
        return {
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.api_key,
            "MANIFOLD_MASTER_KEY": self.master_key,
        }


def generate_key(base_url: str, master_key: str, models: Iterable[str]) -> str:
    """A virtual key for those model groups."""
    answer = httpx.post(
        f"{base_url}/key/generate",
        headers={"Authorization": f"Bearer {master_key}"},
        json={"models": list(models)},
        timeout=_SECONDS,
    )
    if answer.is_error:
        raise StackError(f"POST /key/generate answered {answer.status_code}: {answer.text}")
    key: str = answer.json()["key"]
    return key


def warm(running: Running) -> None:
    """Have each function import what it needs, two at a time, so that the first real calls do not wait for it."""
    headers = {"Authorization": f"Bearer {running.api_key}"}

    def get(path: str) -> None:
        answer = httpx.get(running.base_url + path, headers=headers, timeout=_SECONDS)
        if answer.is_error:
            raise StackError(f"GET {path} answered {answer.status_code}: {answer.text}")

    def invoke(function: str) -> None:
        running.aws.invoke(running.outputs[function], {"Records": []})

    calls: list[tuple[Callable[[str], None], str]] = [
        (get, "/files"),
        (get, "/batches"),
        (invoke, "FilesWorkerName"),
        (invoke, "BatchesWorkerName"),
        (invoke, "BatchesPollerName"),
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(call, argument) for call, argument in calls]:
            done.result()
