"""A running stack: the addresses and keys of its parts, and the calls that warm its functions."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from local.emulator import Emulator
from local.errors import StackError

WARM_READS = ("/files", "/batches", "/webhooks", "/models")
WARM_REFUSAL = "/chat/completions"
"""The routes that warm the functions of the API."""
WARM_INVOKED = ("FilesWorker", "BatchesWorker", "BatchesExecutor", "WebhooksWorker", "BatchesPoller")
"""The functions without routes."""
_SECONDS = 60.0  # a cold start on a busy machine
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Running:
    """The addresses and keys of a stack's parts."""

    base_url: str
    """The base URL for OpenAI's SDKs."""
    api_key: str
    """A virtual key that may use every model group."""
    master_key: str
    provider_url: str
    """The simulated provider, with its `/control` routes."""
    aws_url: str
    database_url: str
    outputs: dict[str, str]
    """The outputs of the template: names of functions, URLs of queues, the bucket."""

    @property
    def aws(self) -> Emulator:
        return Emulator(self.aws_url)

    def environment(self) -> dict[str, str]:
        """The variables that OpenAI's SDKs read, and the master key."""
        return {
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.api_key,
            "MANIFOLD_MASTER_KEY": self.master_key,
        }


def generate_key(base_url: str, master_key: str, models: Iterable[str]) -> str:
    """Generate a virtual key for these model groups."""
    answer = _call("POST", f"{base_url}/key/generate", master_key, {"models": list(models)})
    key: str = answer.json()["key"]
    return key


def warm(base_url: str, key: str, aws: Emulator, outputs: Mapping[str, str]) -> None:
    """Have each function started, and those with routes read their secret and connect, before somebody waits for it.

    No provider is called: a completion of no known model comes as far as that.
    """
    with ThreadPoolExecutor() as pool:
        answered = pool.map(lambda path: _call("GET", base_url + path, key), WARM_READS)
        refused = pool.submit(_refused, base_url + WARM_REFUSAL, key)
        worked = pool.map(lambda name: aws.invoke(outputs[f"{name}Name"], {"Records": []}), WARM_INVOKED)
        list(answered)
        list(worked)
        refused.result()


def _refused(url: str, key: str) -> None:
    """On a busy machine the function may start after its request's time is over, which is a 504; then it is warm."""
    for _ in range(_ATTEMPTS):
        answer = httpx.post(url, headers=_headers(key), json={"model": "none", "messages": []}, timeout=_SECONDS)
        if answer.is_client_error:
            return
    raise StackError(f"POST {url} answered {answer.status_code}: {answer.text}")


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _call(method: str, url: str, key: str, body: object = None) -> httpx.Response:
    answer = httpx.request(method, url, headers=_headers(key), json=body, timeout=_SECONDS)
    if answer.is_error:
        raise StackError(f"{method} {url} answered {answer.status_code}: {answer.text}")
    return answer
