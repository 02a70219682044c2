"""A stack that is up: where its parts are, the keys to them, and the first calls to it."""

from collections.abc import Iterable
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
    answer = _call("POST", f"{base_url}/key/generate", master_key, {"models": list(models)})
    key: str = answer.json()["key"]
    return key


def warm(base_url: str, key: str, aws: Emulator, workers: Iterable[str]) -> None:
    """Have the functions that a first batch needs import what they need, all at once."""
    with ThreadPoolExecutor() as pool:
        answered = pool.map(lambda path: _call("GET", base_url + path, key), ("/files", "/batches"))
        worked = pool.map(lambda worker: aws.invoke(worker, {"Records": []}), workers)
        list(answered)
        list(worked)


def _call(method: str, url: str, key: str, body: object = None) -> httpx.Response:
    answer = httpx.request(method, url, headers={"Authorization": f"Bearer {key}"}, json=body, timeout=_SECONDS)
    if answer.is_error:
        raise StackError(f"{method} {url} answered {answer.status_code}: {answer.text}")
    return answer
